"""Stress: damaged files, odd posts, hostile images, kills, full disks, two processes at once, many posts."""

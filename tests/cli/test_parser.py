"""What `mnergraph.cli.parser` replaces in jsonargparse is there, is used, and is put back."""

from __future__ import annotations

import jsonargparse._typehints as typehints
import pytest
from jsonargparse import ArgumentParser

from mnergraph.cli.parser import UnknownNameError, registry_names
from mnergraph.data import PostDataset
from mnergraph.data.datasets.base import PostFolder


def path_of(name: str) -> str:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PostDataset, "data", skip={"root", "split"}, required=False)
    return parser.parse_args(["--data", name]).data.class_path


@pytest.mark.parametrize("name", ["PostFolder", "postfolder", "post-folder"])
def test_names_are_those_of_the_registry(name: str) -> None:
    with registry_names():
        assert path_of(name) == f"{PostFolder.__module__}.PostFolder"


def test_unknown_names_are_errors_with_the_nearest_name() -> None:
    with registry_names():
        resolve = typehints.resolve_class_path_by_name
        with pytest.raises(UnknownNameError, match=r"there is no data set 'PostFodler'; did you mean PostFolder\?"):
            resolve(PostDataset, "PostFodler")


def fail_inside() -> None:
    with registry_names():
        raise ZeroDivisionError


def test_patched_function_is_restored() -> None:
    before = typehints.resolve_class_path_by_name
    with registry_names():
        assert typehints.resolve_class_path_by_name is not before
    assert typehints.resolve_class_path_by_name is before
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert typehints.resolve_class_path_by_name is before

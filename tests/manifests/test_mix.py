"""Manifests of mixes, and of mixtures that name their runs."""

import json
from dataclasses import replace

import pytest

from tests.manifests.test_mixture import mixture_of
from tokenmill.manifests.mix import Mix, MixedStage
from tokenmill.manifests.mixture import Component, Mixture, RunPlace
from tokenmill.manifests.plan import compile_plan
from tokenmill.manifests.validation import validation_plan


def test_a_mix_is_named_by_its_hash():
    mix = Mix("ö", {"tokens": 5}, (MixedStage("manifests/mixtures/a.json", 3), MixedStage("b", 4)))
    assert Mix.from_json(mix.to_json()) == mix
    assert Mix.from_json(mix.to_json().encode()).path == mix.path
    assert mix.path != replace(mix, name="o").path
    with pytest.raises(ValueError, match="'tokenmill-mix/9' is not 'tokenmill-mix/1'"):
        Mix.from_json('{"format": "tokenmill-mix/9"}')


def test_where_runs_lie_names_the_mixture_and_not_its_order():
    components = [Component("old.web/train", 1.0, 100, 400), Component("code/train", 2.0, 50, 100)]
    run = RunPlace("../web", "manifests/run-00000.a.json", "c" * 32, {"old.web": "web"})
    one, other = (mixture_of(components, runs=(replace(run, place=place),)) for place in ("../web", "s3://b/web"))
    assert Mixture.from_json(one.to_json()) == one
    assert json.loads(one.to_json())["runs"] == [vars(run)]
    assert one.hash != other.hash
    assert one.order_hash == other.order_hash
    assert compile_plan(one, 40).hash == compile_plan(other, 40).hash
    held_out = {"code/validation": (3, 9)}
    assert validation_plan(one, held_out).hash == validation_plan(other, held_out).hash
    plain = mixture_of(components)
    assert "runs" not in json.loads(plain.to_json())
    assert plain.order_hash == plain.hash

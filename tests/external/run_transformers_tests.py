"""transformers' own tests of Mamba, run on our classes: python run_transformers_tests.py CHECKOUT.

CHECKOUT is a source checkout of transformers near the installed version; only its `tests` are
imported, the library stays the installed one. Needs `parameterized`. What is left out and why is
in SKIPPED and in README.md beside this file.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from seshu_swarm.mamba.cache import RecurrentCache
from seshu_swarm.mamba.model import SeshuMambaConfig, SeshuMambaForCausalLM, SeshuMambaModel

TEST_MODULE = "tests.models.mamba.test_modeling_mamba"
SKIPPED = {
    "test_mamba_cached_slow_forward_and_backwards": "calls the mixer with stock's arguments",
    "test_model_weights_reload_no_missing_tied_weights": "a checkpoint without tensors is refused",
}
# Stock Mamba skips these tests of all models as beyond it; ours runs them.
RESTORED = (
    "test_beam_sample_generate",
    "test_enable_input_require_grads",
)


def test_case(module: Any) -> type[unittest.TestCase]:
    """transformers' test case with our classes in place of theirs."""
    # By these tables the tests tell who has a head, hence a loss.
    MODEL_MAPPING_NAMES["seshu_mamba"] = SeshuMambaModel.__name__
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["seshu_mamba"] = SeshuMambaForCausalLM.__name__
    module.MambaConfig = SeshuMambaConfig
    module.MambaModel = SeshuMambaModel
    module.MambaForCausalLM = SeshuMambaForCausalLM
    module.MambaModelTester = _adapted(module.MambaModelTester)
    # What test_model_outputs_equivalence looks for in a cache.
    module.DynamicCache = RecurrentCache
    module.DynamicCache.layers = property(_layers)
    # It sets the norm's epsilon to 1, which a checkpoint may not have.
    for name in ("tests.generation.test_utils", "tests.test_modeling_common"):
        common: Any = importlib.import_module(name)
        common.set_config_for_less_flaky_test = lambda config: None
    # Checkouts of earlier versions than the installed one ask for it.
    SeshuMambaConfig.has_no_defaults_at_init = False
    replaced: dict[str, Any] = {
        "all_model_classes": (SeshuMambaModel, SeshuMambaForCausalLM),
        "all_generative_model_classes": (SeshuMambaForCausalLM,),
        "pipeline_model_mapping": {},
        "_check_past_key_values_for_generate": _check_cache,
        "_check_caches_are_equal": _check_equal,
    }
    original = module.MambaModelTest
    for name, reason in SKIPPED.items():
        replaced[name] = unittest.skip(f"ours: {reason}")(lambda self: None)
    for name in RESTORED:
        inherited = [vars(base)[name] for base in original.__mro__[1:] if name in vars(base)]
        if inherited:
            replaced[name] = inherited[0]
    case: type[unittest.TestCase] = type("SeshuMambaModelTest", (original,), replaced)
    return case


def _layers(cache: RecurrentCache) -> list[SimpleNamespace]:
    blocks = (cache[index] for index in range(len(cache)))
    return [SimpleNamespace(conv_states=[conv], recurrent_states=[ssm]) for conv, ssm in blocks]


def _adapted(original: Any) -> type:
    """Their inputs with a text in them, and sizes that follow from one another."""

    class Tester(original):
        def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
            config, inputs = super().prepare_config_and_inputs_for_common()
            # Theirs is random below 1: zeros, a batch without any text.
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
            # Without a mask generate() takes each pad id, here the last one, for padding.
            inputs["input_ids"] = inputs["input_ids"].clamp(max=config.vocab_size - 2)
            return config, inputs

        def get_config(self, *args: Any, **kwargs: Any) -> Any:
            config = super().get_config(*args, **kwargs)
            config.expand = config.intermediate_size // config.hidden_size
            return config

    return Tester


def _check_cache(
    self: unittest.TestCase,
    batch_size: int,
    past_key_values: Any,
    seq_length: int,
    config: Any,
) -> None:
    """The same size whatever the length; one conv state and one ssm state for each block."""
    shape = config.to_shape()
    self.assertEqual(len(past_key_values), shape.num_blocks)
    for conv, ssm in (past_key_values[index] for index in range(shape.num_blocks)):
        self.assertEqual(tuple(conv.shape), (batch_size, shape.d_inner, shape.d_conv - 1))
        self.assertEqual(tuple(ssm.shape), (batch_size, shape.d_inner, shape.d_state))


def _check_equal(self: unittest.TestCase, one: RecurrentCache, other: RecurrentCache) -> None:
    for index in range(len(one)):
        for ours, theirs in zip(one[index], other[index], strict=True):
            torch.testing.assert_close(ours, theirs)


def _names(entries: list[tuple[Any, str]]) -> set[str]:
    """Tests, each once: a part of one stands for it."""
    return {getattr(test, "test_case", test).id() for test, _ in entries}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="A source checkout of transformers.")
    parser.add_argument("--only", default="*", help="Names of tests to run, as a pattern.")
    parser.add_argument("--stock", action="store_true", help="Run them on transformers' classes.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(arguments.checkout.resolve()))
    module: Any = importlib.import_module(TEST_MODULE)
    case = module.MambaModelTest if arguments.stock else test_case(module)
    names = unittest.defaultTestLoader.getTestCaseNames(case)
    suite = unittest.TestSuite(case(n) for n in names if fnmatch.fnmatchcase(n, arguments.only))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed, skipped = _names(result.failures + result.errors), _names(result.skipped)
    num_passed = result.testsRun - len(failed | skipped)
    print(f"{num_passed} passed, {len(failed)} failed, {len(skipped)} skipped for a class or whole")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    raise SystemExit(main())

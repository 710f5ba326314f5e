# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""The estimator's mean, taken over every possible set of samples, is the exact gradient of the objective.

The toy policy has five tokens and rationales of at most two. After a first "c" it begins the answer template, "d", with
probability 1 (so that ending carries no gradient of its own), and never otherwise: seven rationales of two lengths, one
finished and six that ran into the length limit. Whatever K of them the trainer is handed, its update is weighted by the
probability of sampling just these; the sum is compared with autograd on the objective written out.
"""

import math
from collections import Counter
from itertools import combinations_with_replacement, product

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, TrainerCallback

from given import logps_of_sample, perturb
from reference import Row, row_reward, surprise, token_logps
from trl_latro import LaTROConfig, LaTROTrainer
from trl_latro.rollout.engine import RolloutEngine, Sampled


A, B, C, D, END = range(5)
PROMPT = (A, B)
ANSWER = (D, A, END)  # "d {answer}" with the answer "a"
ALL_TOKENS, ANSWER_TOKENS = "template_and_answer", "answer"
FIRST_TOKEN = {ALL_TOKENS: 0, ANSWER_TOKENS: 1}  # of those that the reward is about
RATIONALES = [(C,), *product((A, B), (A, B, C))]
NUM_GENERATIONS = 3
PENALTY = 0.7
BETA = 0.3


def toy_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"a": A, "b": B, "c": C, "d": D, "<end>": END}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def toy_model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=5,
        n_positions=12,
        n_embd=16,
        n_layer=1,
        n_head=2,
        tie_word_embeddings=False,
        bos_token_id=END,
        eos_token_id=END,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.4)
        # Channel 0 decides about ending: never where the two rationale tokens are sampled, always after a "c"
        for block in model.transformer.h:
            block.attn.c_proj.weight[:, 0] = 0.0
            block.mlp.c_proj.weight[:, 0] = 0.0
        model.transformer.wte.weight[:, 0] = torch.tensor([0.0, 0.0, -22.0, 0.0, 0.0])
        model.transformer.wpe.weight[:, 0] = 0.0
        model.transformer.wpe.weight[1:3, 0] = 10.0
        model.lm_head.weight[:, 0] = torch.tensor([0.0, 0.0, 0.0, -18.0, -10.0])
    return model


class EverySample(TrainerCallback):
    """Sums up the updates, each weighted by the probability of the samples it was made from."""

    def __init__(self, probabilities: list[float]):
        self.probabilities = probabilities
        self.mean: Counter = Counter()

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            self.mean[name] += self.probabilities[state.global_step] * parameter.grad.double()


class GivenSamples(RolloutEngine):
    """Hands out the given sets of samples one after the other, with the log-probs of the model that draws them."""

    def __init__(
        self, trainer: LaTROTrainer, sets: list[tuple[tuple[int, ...], ...]], sampler: nn.Module | None = None
    ):
        super().__init__(trainer.truncator, trainer.max_completion_length)
        self.sets = iter(sets)
        self.sampler = sampler

    def generate(self, prompt_ids: list[list[int]], num_generations: int, answer_budget: int) -> list[Sampled]:
        assert prompt_ids == [list(PROMPT)] * NUM_GENERATIONS
        samples = [[C, D] if z == (C,) else list(z) for z in next(self.sets)]
        if self.sampler is None:
            return [Sampled(sample) for sample in samples]
        return [Sampled(sample, logps_of_sample(self.sampler, list(PROMPT), sample)) for sample in samples]


def exact_gradient(
    policy: nn.Module, reference: nn.Module, reward_type, beta: float, reward_tokens: str = ALL_TOKENS
) -> dict[str, torch.Tensor]:
    """
    -dJ/dtheta of `J = E[R - penalty - beta KL]` (jepo: of `J = E[log mean_k exp l(z_k)] - E[penalty + beta KL]`). Tokens
    that the reward is not about have `E[w grad log pi(template|x,z)]`, with `w` the mean weight of those that it is about:
    their likelihood, without a credit of the rationale.
    """
    first = FIRST_TOKEN[reward_tokens]
    log_p, rest, answer_logps, template_logps = [], [], [], []
    for z in RATIONALES:
        row = Row(PROMPT, z, ANSWER, finished=z == (C,))
        z_logps, y_logps = token_logps(policy, row)
        with torch.no_grad():
            z_reference, _ = token_logps(reference, row)
        log_p.append(z_logps.sum())
        template_logps.append(y_logps[:first].sum())
        answer_logps.append(y_logps[first:])
        penalty = 0.0 if row.finished else PENALTY
        rest.append(-penalty - beta * (z_logps.sum() - z_reference.sum()))
    p = torch.stack(log_p).exp()
    assert abs(p.sum().item() - 1) < 1e-9, "the seven rationales must be all that can be sampled"

    objective = (p * torch.stack(rest)).sum()
    if reward_type == "jepo":
        logp = torch.stack([y.sum() for y in answer_logps])
        for drawn in product(range(len(RATIONALES)), repeat=NUM_GENERATIONS):
            indices = torch.tensor(drawn)
            bound = torch.logsumexp(logp[indices], 0) - math.log(NUM_GENERATIONS)
            template = (logp[indices].softmax(0).detach() * torch.stack(template_logps)[indices]).sum()
            objective = objective + p[indices].prod() * bound + p[indices].prod().detach() * template
    else:
        for i, y in enumerate(answer_logps):
            reward = row_reward(reward_type, y)
            (weights,) = torch.autograd.grad(reward, y, retain_graph=True)
            objective = objective + p[i] * reward + p[i].detach() * weights.mean() * template_logps[i]
    names, parameters = zip(*policy.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(-objective, parameters), strict=True))


def double_copy(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    copy = GPT2LMHeadModel(model.config)
    copy.load_state_dict(model.state_dict())
    return copy.double()


def probabilities_of(sampler: nn.Module, sets: list[tuple[tuple[int, ...], ...]]) -> list[float]:
    """How probable it is that a model samples these rationales, in any order."""
    with torch.no_grad():
        p = {z: token_logps(sampler, Row(PROMPT, z, ANSWER, True))[0].sum().exp().item() for z in RATIONALES}
    probabilities = []
    for drawn in sets:
        orders = math.factorial(NUM_GENERATIONS)
        for count in Counter(drawn).values():
            orders //= math.factorial(count)
        probabilities.append(orders * math.prod(p[z] for z in drawn))
    assert abs(sum(probabilities) - 1) < 1e-8
    return probabilities


def mean_update(trainer_args: dict, path: str, reward_type, beta: float, noise: float | None = None):
    """
    The trainer's mean update, and its policy and reference model in double precision. With `noise`, the rationales are
    those of a model with noise of this size on the policy's weights, and the engine gives their log-probs.
    """
    args = LaTROConfig(
        output_dir=path,
        num_generations=NUM_GENERATIONS,
        per_device_train_batch_size=NUM_GENERATIONS,
        gradient_accumulation_steps=1,
        max_completion_length=2,
        learning_rate=0.0,
        max_grad_norm=0.0,
        beta=beta,
        reward_type=reward_type,
        unfinished_penalty=PENALTY,
        answer_template="d {answer}",
        logging_strategy="no",
        save_strategy="no",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        **trainer_args,
    )
    sets = list(combinations_with_replacement(RATIONALES, NUM_GENERATIONS))
    args.max_steps = len(sets)
    model = GPT2LMHeadModel.from_pretrained(path)
    trainer = LaTROTrainer(
        model,
        args,
        Dataset.from_dict({"prompt": ["a b"], "answer": ["a"]}),
        processing_class=toy_tokenizer(),
    )
    reference = GPT2LMHeadModel.from_pretrained(path).double()
    perturb(model, seed=1, size=0.03)  # so that the KL is not zero
    policy, sampler = double_copy(model), double_copy(model)
    perturb(sampler, seed=2, size=noise or 0.0)
    trainer.engine = GivenSamples(trainer, sets, None if noise is None else sampler)
    collect = EverySample(probabilities_of(sampler, sets))
    trainer.add_callback(collect)
    trainer.train()
    assert trainer.state.global_step == len(sets)
    return collect.mean, policy, reference


@pytest.fixture(scope="module")
def toy_path(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("toy"))
    toy_model().save_pretrained(path)
    return path


def furthest(mean: Counter, exact: dict[str, torch.Tensor]) -> float:
    """The largest difference, as a share of the largest gradient."""
    assert mean.keys() == exact.keys()
    scale = max(gradient.abs().max().item() for gradient in exact.values())
    assert scale > 1e-2, "a gradient that is zero anyway proves nothing"
    return max((mean[name] - exact[name]).abs().max().item() for name in exact) / scale


@pytest.mark.parametrize(
    ("beta", "reward_tokens"), [(0.0, ALL_TOKENS), (BETA, ALL_TOKENS), (0.0, ANSWER_TOKENS), (BETA, ANSWER_TOKENS)]
)
@pytest.mark.parametrize("reward_type", ["logprob", "prob", "mean_prob", "geometric_mean", "jepo", "power", surprise])
def test_mean_update_over_all_samples_is_the_exact_gradient(toy_path, reward_type, beta, reward_tokens):
    mean, policy, reference = mean_update({"reward_tokens": reward_tokens}, toy_path, reward_type, beta)
    exact = exact_gradient(policy, reference, reward_type, beta, reward_tokens)
    scale = max(gradient.abs().max().item() for gradient in exact.values())
    assert scale > 1e-2, "a gradient that is zero anyway proves nothing"
    assert mean.keys() == exact.keys()
    for name, gradient in exact.items():
        torch.testing.assert_close(mean[name], gradient, rtol=1e-4, atol=1e-5 * max(scale, 1.0), msg=name)


@pytest.mark.parametrize(
    ("reward_type", "reward_tokens"),
    [("logprob", ALL_TOKENS), ("logprob", ANSWER_TOKENS), ("prob", ANSWER_TOKENS), ("jepo", ALL_TOKENS)],
)
def test_samples_of_another_model_give_the_exact_gradient_with_importance_ratios_only(
    toy_path, reward_type, reward_tokens
):
    found = {}
    for correction in (True, False):
        args = {
            "reward_tokens": reward_tokens,
            "vllm_importance_sampling_correction": correction,
            "vllm_importance_sampling_clip_max": 1e6,
        }
        mean, policy, reference = mean_update(args, toy_path, reward_type, BETA, noise=0.05)
        exact = exact_gradient(policy, reference, reward_type, BETA, reward_tokens)
        found[correction] = furthest(mean, exact)
    assert found[True] < 1e-4
    assert found[False] > 1e-2, "a sampler like the policy proves nothing"


def test_the_released_codes_loss_is_not_the_exact_gradient(toy_path):
    """`answer_coef=0` drops the second term: the comparison above must see the difference."""
    mean, policy, reference = mean_update({"answer_coef": 0.0}, toy_path, "logprob", BETA)
    exact = exact_gradient(policy, reference, "logprob", BETA)
    assert max((mean[name] - exact[name]).abs().max().item() for name in exact) > 1e-2

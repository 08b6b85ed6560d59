"""Reinforcement: PPO on CartPole and Acrobot, which the paper does not try."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evidence.contenders import ADAMW, FOUR
from evidence.experiment import Experiment, Scale, plan_studies
from evidence.optimizers import Driver, time_of
from evidence.protocol import Study
from evidence.store import Config, Result, Results
from evidence.training import fingerprint, short

ENVIRONMENTS = 8
EPOCHS, PARTS = 4, 4
"""How often a rollout is learnt from, and in how many batches each time."""
DISCOUNT, TRACE, CLIP = 0.99, 0.95, 0.2
FLOORS = {"CartPole-v1": 500.0, "Acrobot-v1": 0.0}
"""The best return; the objective is how far below it the policy stays."""


def studies(scale: Scale) -> list[Study]:
    """Return a comparison a task; ten seeds, for returns spread more than losses."""
    rollouts = {"CartPole-v1": scale.pick(3, 50), "Acrobot-v1": scale.pick(3, 100)}
    return [
        Study(
            name,
            {
                "experiment": "control",
                "task": name,
                "width": scale.pick(8, 32),
                "rollout": scale.pick(16, 64),
                "steps": count * EPOCHS * PARTS,
                "schedule": "cosine",
                "clip": 0.5,
                **scale.overrides,
            },
            [each.with_options(weight_decay=0.0, warmup=0.0) for each in FOUR]
            if scale.size != "smoke"
            else [ADAMW],
            "shortfall",
            first_rate=1e-3,
            report=scale.seeds(range(10)),
        )
        for name, count in rollouts.items()
    ]


class Agent(nn.Module):
    """A policy and a value, each of two hidden layers."""

    def __init__(self, inputs: int, actions: int, width: int) -> None:
        super().__init__()

        def network(outputs: int, gain: float) -> nn.Sequential:
            last = nn.Linear(width, outputs)
            nn.init.orthogonal_(last.weight, gain)
            return nn.Sequential(
                nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), last
            )

        self.policy, self.value = network(actions, 0.01), network(1, 1.0)


class Arena:
    """Several environments at once, and the returns of the episodes that have ended."""

    def __init__(self, name: str, seed: int) -> None:
        import gymnasium

        self._environments = gymnasium.make_vec(
            name, num_envs=ENVIRONMENTS, vectorization_mode="sync"
        )
        self.state, _ = self._environments.reset(seed=seed)
        self.actions = int(self._environments.single_action_space.n)
        self._so_far = np.zeros(ENVIRONMENTS)
        self.returns: list[float] = []

    def step(self, actions: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """Return rewards, and where episodes ended."""
        self.state, rewards, failed, late, _ = self._environments.step(actions)
        over = np.logical_or(failed, late)
        self._so_far += rewards
        self.returns.extend(self._so_far[over].tolist())
        self._so_far[over] = 0.0
        return np.asarray(rewards), over


def run(config: Config) -> Result:
    """Train one agent; return its mean returns over the rollouts, and how far below the best."""
    torch.manual_seed(config["seed"])
    arena = Arena(config["task"], config["seed"])
    agent = Agent(arena.state.shape[1], arena.actions, config["width"])
    driver = Driver(config, agent)
    rollouts = config["steps"] // (EPOCHS * PARTS)
    shortfalls: list[float] = []
    best = FLOORS[config["task"]]
    mean = 0.0
    for rollout in range(rollouts):
        arena.returns.clear()
        batch = _collect(agent, arena, config["rollout"])
        if arena.returns:
            mean = float(np.mean(arena.returns))
        elif rollout == 0:
            mean = -500.0 if best == 0.0 else 0.0
        shortfalls.append(best - mean)
        _learn(agent, driver, batch, rollout, config["clip"])
        if not all(bool(torch.isfinite(weight).all()) for weight in agent.parameters()):
            return {"diverged": (rollout + 1) * EPOCHS * PARTS}
    # The last fifth of the rollouts is what the policy has come to.
    last = float(np.mean(shortfalls[-max(1, rollouts // 5) :]))
    smooth = [float(np.mean(part)) for part in np.array_split(shortfalls, min(10, rollouts))]
    marks = [round((i + 1) * config["steps"] / len(smooth)) for i in range(len(smooth))]
    return {
        "marks": marks,
        "training": [short(value) for value in smooth],
        "validation": {"shortfall": [short(value) for value in smooth[:-1]] + [short(last)]},
        "test": {"shortfall": short(last), "mean shortfall": short(float(np.mean(shortfalls)))},
        "time": short(time_of(config)),
        "weights": fingerprint(agent),
    }


@torch.no_grad()
def _collect(agent: Agent, arena: Arena, steps: int) -> tuple[Tensor, ...]:
    """Return states, actions, their log-probabilities, advantages and returns of a rollout."""
    states, actions, chances, values, rewards, ends = [], [], [], [], [], []
    for _ in range(steps):
        state = torch.as_tensor(arena.state, dtype=torch.float32)
        scores = agent.policy(state).log_softmax(-1)
        action = torch.multinomial(scores.exp(), 1)
        states.append(state)
        actions.append(action[:, 0])
        chances.append(scores.gather(1, action)[:, 0])
        values.append(agent.value(state)[:, 0])
        reward, over = arena.step(action[:, 0].numpy())
        rewards.append(torch.as_tensor(reward, dtype=torch.float32))
        ends.append(torch.as_tensor(over, dtype=torch.float32))
    following = agent.value(torch.as_tensor(arena.state, dtype=torch.float32))[:, 0]
    advantages = [torch.empty(0)] * steps
    trace = torch.zeros_like(following)
    for i in reversed(range(steps)):
        goes_on = 1 - ends[i]
        error = rewards[i] + DISCOUNT * goes_on * following - values[i]
        trace = error + DISCOUNT * TRACE * goes_on * trace
        advantages[i], following = trace, values[i]
    gained = torch.cat(advantages)
    return (
        torch.cat(states),
        torch.cat(actions),
        torch.cat(chances),
        gained,
        gained + torch.cat(values),
    )


def _learn(
    agent: Agent, driver: Driver, batch: tuple[Tensor, ...], rollout: int, clip: float
) -> None:
    states, actions, chances, advantages, returns = batch
    step = rollout * EPOCHS * PARTS
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(states)).chunk(PARTS):
            scores = agent.policy(states[chosen]).log_softmax(-1)
            ratio = (scores.gather(1, actions[chosen, None])[:, 0] - chances[chosen]).exp()
            gained = advantages[chosen]
            gained = (gained - gained.mean()) / (gained.std() + 1e-8)
            kept = ratio.clamp(1 - CLIP, 1 + CLIP)
            entropy = -(scores.exp() * scores).sum(-1).mean()
            error = (agent.value(states[chosen])[:, 0] - returns[chosen]).square().mean()
            loss = 0.5 * error - torch.minimum(ratio * gained, kept * gained).mean()
            (loss - 0.01 * entropy).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), clip)
            driver.step(step)
            step += 1


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return plan_studies(studies(scale), done, short=False)


EXPERIMENT = Experiment(
    "control",
    "Reinforcement learning",
    "Not tried in the paper: PPO.",
    plan,
    run,
    studies,
)

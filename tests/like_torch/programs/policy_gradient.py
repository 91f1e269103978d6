"""REINFORCE on a corridor: an action drawn from the policy, returns, log-probabilities."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.distributions import Categorical

torch.set_default_dtype(torch.float64)
gamma = 0.9


class Corridor:
    """Start in the middle; the right end gives 1, the left end -1, each step costs a little."""

    length = 7

    def reset(self):
        self.position = self.length // 2
        return self._state()

    def _state(self):
        return [float(i == self.position) for i in range(self.length)]

    def step(self, action):
        self.position += 1 if action == 1 else -1
        done = self.position in (0, self.length - 1)
        reward = -0.02
        if done:
            reward = 1.0 if self.position > 0 else -1.0
        return self._state(), reward, done


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(7, 16)
        self.affine2 = nn.Linear(16, 2)
        self.saved_log_probs = []
        self.rewards = []

    def forward(self, x):
        x = self.affine1(x)
        x = F.relu(x)
        action_scores = self.affine2(x)
        return F.softmax(action_scores, dim=1)


env = Corridor()
policy = Policy()
optimizer = optim.Adam(policy.parameters(), lr=1e-2)
eps = 1e-6


def select_action(state):
    state = torch.tensor(state).unsqueeze(0)
    probs = policy(state)
    m = Categorical(probs)
    action = m.sample()
    policy.saved_log_probs.append(m.log_prob(action))
    return action.item(), m.entropy().mean()


def finish_episode(entropies):
    R = 0
    policy_loss = []
    returns = []
    for r in policy.rewards[::-1]:
        R = r + gamma * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std(unbiased=False) + eps)
    for log_prob, R in zip(policy.saved_log_probs, returns):
        policy_loss.append(-log_prob * R)
    optimizer.zero_grad()
    policy_loss = torch.cat(policy_loss).sum() - 0.01 * torch.stack(entropies).mean()
    policy_loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_log_probs[:]
    return policy_loss.item()


losses = []
for i_episode in range(15):
    state, ep_reward, entropies = env.reset(), 0, []
    for t in range(1, 30):
        action, entropy = select_action(state)
        state, reward, done = env.step(action)
        entropies.append(entropy)
        policy.rewards.append(reward)
        ep_reward += reward
        if done:
            break
    losses += [finish_episode(entropies), ep_reward]
    if i_episode % 5 == 0:
        print("Episode {}\tLast reward: {:.2f}".format(i_episode, ep_reward))
with torch.no_grad():
    losses.extend(policy(torch.eye(7)).log()[:, 1].tolist())

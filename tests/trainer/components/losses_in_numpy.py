"""The trainer's own losses once more, in NumPy: one example, and one pair of them, after another."""

import numpy as np


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def gaussian_nll(target, prediction, min_variance=1e-6):
    size = prediction.shape[1] // 2
    variances = min_variance + np.exp(prediction[:, size:])
    errors = target.reshape(-1, size) - prediction[:, :size]
    return -np.log(np.exp(-(errors**2) / (2 * variances)) / np.sqrt(2 * np.pi * variances)).mean(axis=1)


def quantile(target, prediction, quantiles=(0.5,)):
    values = []
    for row, numbers in zip(target.reshape(len(target), -1), prediction, strict=True):
        pairs = zip(np.repeat(quantiles, len(row)), np.tile(row, len(quantiles)), numbers, strict=True)
        values.append(np.mean([t * (y - q) if y >= q else (1 - t) * (q - y) for t, y, q in pairs]))
    return np.array(values)


def pairwise_logistic(target, prediction):
    """Of the items of each example, or of examples, of which each takes part in the pairs on both of its sides."""
    if prediction.shape[1] > 1:
        lists = [
            [np.log1p(np.exp(s - t)) for y, t in zip(*row, strict=True) for x, s in zip(*row, strict=True) if y > x]
            for row in zip(target, prediction, strict=True)
        ]
        return np.array([np.mean(pairs) if pairs else 0.0 for pairs in lists])
    scores, order, values = prediction[:, 0], target.ravel(), []
    for i, one in enumerate(order):
        others = [j for j, other in enumerate(order) if other < one or other > one]  # neither where one of them is NaN
        pairs = [np.log1p(np.exp(-np.sign(one - order[j]) * (scores[i] - scores[j]))) for j in others]
        values.append(np.mean(pairs) if pairs else 0.0)
    return np.array(values)


def softmax_ranking(target, prediction):
    values = []
    for row, scores in zip(target, prediction, strict=True):
        items = row >= 0
        total = row[items].sum()
        values.append(-np.sum(row[items] / total * np.log(softmax(scores[items]))) if total > 0 else 0.0)
    return np.array(values)


def focal(target, prediction, alpha=0.25, gamma=2.0):
    likely = np.array([softmax(row)[int(k)] for row, k in zip(prediction, target.ravel(), strict=True)])
    weights = np.broadcast_to(alpha, prediction.shape[1])[target.ravel().astype(int)]
    return -weights * (1 - likely) ** gamma * np.log(likely)


def contrastive(target, prediction, temperature=0.1):
    units, values = prediction / np.linalg.norm(prediction, axis=1, keepdims=True), []
    for i, own in enumerate(target.ravel()):
        others = [j for j in range(len(units)) if j != i]
        shares = dict(zip(others, softmax(units[others] @ units[i] / temperature), strict=True)) if others else {}
        found = [-np.log(shares[j]) for j in others if target.ravel()[j] == own]
        values.append(np.mean(found) if found else 0.0)
    return np.array(values)


def triplet_semihard(target, prediction, margin=1.0):
    values = []
    for i, own in enumerate(target.ravel()):
        distances = np.sum((prediction - prediction[i]) ** 2, axis=1)
        negatives = distances[target.ravel() != own]
        found = []
        for p in np.flatnonzero(target.ravel() == own):
            if p != i and len(negatives):
                farther = negatives[negatives > distances[p]]
                found.append(max(0.0, distances[p] - (farther.min() if len(farther) else negatives.max()) + margin))
        values.append(np.mean(found) if found else 0.0)
    return np.array(values)


def distillation(target, prediction, temperature=2.0):
    teacher, head = (np.array([softmax(row / temperature) for row in each]) for each in (target, prediction))
    return temperature**2 * np.sum(teacher * np.log(teacher / head), axis=1)

"""Comparisons with known truth: clicks drawn from known probabilities, and arms that see them through known noise."""

import numpy as np

from clickprompt_hf.comparison import ARMS, ArmRun, Comparison
from clickprompt_hf.comparison.results import PLM_ARMS, SEEDLESS_ARMS

UNSEEN, RARE, FREQUENT = 0, 5, 50
SIGNAL = 1.5


def made_comparison(
    noise,
    seed=0,
    rows=3000,
    seeds=(1, 2, 3),
    clicks_follow=True,
    unseen_noise=None,
    log_loss_factor=None,
    seed_noise=0.05,
    counts=True,
    importance=None,
    settings=None,
    title="made table",
):
    """Draw a comparison whose truth is known.

    A row clicks with probability sigmoid(1.5 z - 1), z standard normal. An arm sees z + noise e with e standard
    normal, a fixed share of it (0.5) the same for all seeds, and predicts as one who knows its noise.

    Args:
        noise: Noise by arm: 0 sees the truth. `constant` ignores it. Order of quality: less noise, higher AUC.
        seed: Seed of the draw.
        rows: Number of rows; a quarter are of unseen items, a quarter rare, half frequent.
        seeds: Seeds of the runs; arms that a seed does not change have the first alone. A dict gives them by arm.
        clicks_follow: Whether clicks depend on z at all.
        unseen_noise: Noise by arm on rows of unseen items, if different there.
        log_loss_factor: Factor of the logits by arm: above 1, overconfident; AUC does not change.
        seed_noise: Standard deviation of the noise's logarithm over seeds.
        counts: Whether the number of training rows per item is known.
    """
    draw = np.random.default_rng(seed)
    z = draw.normal(size=rows)
    labels = (draw.random(rows) < 1 / (1 + np.exp(1 - SIGNAL * z * clicks_follow))).astype(int)
    item = draw.choice([UNSEEN, RARE, FREQUENT, FREQUENT], rows)
    runs = []
    for arm, size in noise.items():
        sizes = np.where(item == UNSEEN, (unseen_noise or {}).get(arm, size), size)
        same = draw.normal(size=rows)
        of_arm = seeds.get(arm, (1, 2, 3)) if isinstance(seeds, dict) else seeds
        for number in of_arm[:1] if arm in SEEDLESS_ARMS else of_arm:
            own = sizes * np.exp(seed_noise * draw.normal())
            seen = z + own * np.sqrt(0.5) * (same + draw.normal(size=rows))
            # the best guess of z, and the shrinkage of a logit that is uncertain (MacKay 1992)
            mean, variance = seen / (1 + own**2), own**2 / (1 + own**2)
            logits = (SIGNAL * mean - 1) / np.sqrt(1 + np.pi / 8 * SIGNAL**2 * variance)
            logits *= (log_loss_factor or {}).get(arm, 1)
            scores = np.full(rows, 1 / (1 + np.e)) if arm == "constant" else 1 / (1 + np.exp(-logits))
            place = list(ARMS).index(arm)
            runs.append(
                ArmRun(
                    arm=arm,
                    seed=number,
                    probabilities=scores,
                    # among equals, the last arm of `ARMS`
                    validation_auc=0.5 if arm == "constant" else 0.9 - 0.1 * size + 1e-6 * place,
                    validation_log_loss=0.6,
                    train_seconds=60.0 * place,
                    rows_per_second=1e6 / 3**place,
                    megabytes=10.0 * place,
                    hyperparameters={"learning_rate": 0.001},
                    uses_plm_at_serving=arm in PLM_ARMS and arm != "clickprompt_pamlm_without_plm",
                )
            )
    return Comparison(title, settings or {}, labels, {"item": item} if counts else {}, runs, importance)

# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
r"""Generated impressions whose true click probabilities are known.

Users u have an age range a(u), a job, and latent factors; items i have a maker, a title, and latent factors. A title
is two words of the item's topic t(i) between two neutral words: "Quiet Harbor Voyage Deluxe".

    P(click | u, i) = sigmoid(-0.4 + <p_u, q_i> / sqrt(2) + b_i + sum_{w in title} e_w + g_{a(u), t(i)})

| part of the logit | drawn from | variance over rows | visible in |
|---|---|---|---|
| collaborative: p_u, q_i in R^2 | N(0, 1) | about 1 | ids only |
| item bias b_i | N(0, 0.3^2) | about 0.1 | ids only |
| word effects: e_w = topic's + own | N(0, 0.4^2) + N(0, 0.5^2) | about 1.3 | text, for unseen items too |
| taste g of an age range for a topic | N(0, 0.5^2) | about 0.25 | text, for unseen items too |

Users are drawn uniformly, items by Zipf's law (popularity 1 / (r + 10) at rank r), so that a tenth of the test rows
have an item with at most a handful of training rows. There is no column of topics: words of one topic occur together,
which is what masked language modeling can learn. Maker and job carry no signal.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from ...schema_clickprompt import FieldSchema, Schema
from .source import SourceTable

TRUE_PROBABILITY = "true_probability"
SCHEMA = Schema(
    fields=(
        FieldSchema("user_id", "User ID"),
        FieldSchema("age", "Age"),
        FieldSchema("job", "Job"),
        FieldSchema("item_id", "Item ID"),
        FieldSchema("title", "Title"),
        FieldSchema("maker", "Maker"),
    ),
    label="click",
)

_AGES = ("under 18", "18-24", "25-34", "35-44", "45-54", "55+")
_JOBS = ("artist", "baker", "clerk", "doctor", "driver", "farmer", "lawyer", "nurse", "student", "teacher")
_NEUTRAL_FIRST = ("Quiet", "Golden", "Little", "Last", "Hidden", "Grand", "Silent", "New", "Broken", "Bright")
_NEUTRAL_LAST = ("Deluxe", "Returns", "Story", "Edition", "Tales", "Classic", "Forever", "Again", "Stories", "Special")
_TOPICS = (
    "Harbor Voyage Anchor Sailor Island Lagoon Captain Storm Reef Tide Compass Pirate Lighthouse Vessel Shore",
    "Galaxy Robot Orbit Comet Rocket Alien Nebula Station Laser Planet Android Cosmos Meteor Launch Void",
    "Garden Orchard Rose Meadow Blossom Harvest Ivy Willow Petal Seed Greenhouse Fern Lavender Bloom Vine",
    "Detective Murder Alibi Witness Clue Verdict Suspect Motive Inspector Crime Evidence Ransom Heist Trial Jury",
    "Kitchen Recipe Pepper Bakery Supper Cinnamon Feast Oven Butter Spice Banquet Noodle Honey Picnic Broth",
    "Castle Dragon Knight Crown Wizard Sword Kingdom Quest Throne Goblin Shield Prophecy Duke Enchantment Rune",
    "Stadium Champion Sprint Goal Racket Marathon Coach League Trophy Boxer Rally Relay Umpire Medal Derby",
    "Violin Sonata Jazz Rhythm Ballad Choir Opera Drum Melody Chorus Piano Tempo Anthem Encore Waltz",
)


@dataclass(frozen=True)
class SyntheticSizes:
    """Sizes of the generated data.

    Args:
        num_rows: Number of impressions.
        num_users: Number of users.
        num_items: Number of items.
        data_seed: Seed of the data, which does not change with the seed of training.
    """

    num_rows: int = 24_000
    num_users: int = 600
    num_items: int = 2_500
    data_seed: int = 0


def load_synthetic(sizes: SyntheticSizes | None = None) -> SourceTable:
    """Draw users, items and impressions. The schema leaves out the column `true_probability`."""
    sizes = sizes or SyntheticSizes()
    draw = np.random.default_rng(sizes.data_seed)
    user_age = draw.integers(len(_AGES), size=sizes.num_users)
    user_job = draw.integers(len(_JOBS), size=sizes.num_users)
    user_factors = draw.standard_normal((sizes.num_users, 2))

    words = np.asarray([*_NEUTRAL_FIRST, *_NEUTRAL_LAST, *" ".join(_TOPICS).split()])
    words_per_topic = len(_TOPICS[0].split())
    num_neutral = len(words) - words_per_topic * len(_TOPICS)
    topic_effects = draw.normal(0, 0.4, len(_TOPICS))
    word_effects = draw.normal(0, 0.5, len(words))
    word_effects[num_neutral:] += np.repeat(topic_effects, words_per_topic)
    taste = draw.normal(0, 0.5, (len(_AGES), len(_TOPICS)))

    item_topic = draw.integers(len(_TOPICS), size=sizes.num_items)
    in_topic = draw.permuted(np.tile(np.arange(words_per_topic), (sizes.num_items, 1)), axis=1)[:, :2]
    item_words = np.stack(
        [
            draw.integers(len(_NEUTRAL_FIRST), size=sizes.num_items),
            *(num_neutral + item_topic[:, None] * words_per_topic + in_topic).T,
            len(_NEUTRAL_FIRST) + draw.integers(len(_NEUTRAL_LAST), size=sizes.num_items),
        ],
        axis=1,
    )
    item_maker = draw.integers(40, size=sizes.num_items)
    item_factors = draw.standard_normal((sizes.num_items, 2))
    item_bias = draw.normal(0, 0.3, sizes.num_items)

    users = draw.integers(sizes.num_users, size=sizes.num_rows)
    popularity = 1 / (np.arange(sizes.num_items) + 10.0)
    items = draw.choice(sizes.num_items, size=sizes.num_rows, p=popularity / popularity.sum())
    logits = (
        -0.4
        + (user_factors[users] * item_factors[items]).sum(axis=1) / np.sqrt(2)
        + item_bias[items]
        + word_effects[item_words[items]].sum(axis=1)
        + taste[user_age[users], item_topic[items]]
    )
    probabilities = 1 / (1 + np.exp(-logits))
    clicks = (draw.random(sizes.num_rows) < probabilities).astype(np.int8)

    titles = np.asarray([" ".join(words[row]) for row in item_words])
    columns = {
        "user_id": users,
        "age": np.asarray(_AGES)[user_age[users]],
        "job": np.asarray(_JOBS)[user_job[users]],
        "item_id": items,
        "title": titles[items],
        "maker": np.asarray([f"Maker {maker + 1}" for maker in item_maker])[items],
        SCHEMA.label: clicks,
        TRUE_PROBABILITY: probabilities,
    }
    return SourceTable(pa.table(columns), SCHEMA)


def best_reachable_auc(split: pa.Table) -> float:
    """AUC of the true probabilities for the clicks of `split`, which no model can be expected to exceed."""
    return float(roc_auc_score(split.column(SCHEMA.label).to_numpy(), split.column(TRUE_PROBABILITY).to_numpy()))

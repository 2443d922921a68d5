"""A table of invented people, the same for every seed."""

import numpy as np
import pandas as pd


def people(count: int, seed: int) -> pd.DataFrame:
    """Numbers, a city and their own `id`; a price, a kind of three, and a yes or no follow from them."""
    random = np.random.RandomState(seed)
    frame = pd.DataFrame(
        {
            "id": [f"row {index}" for index in range(count)],
            "age": random.randint(18, 80, count),
            "income": random.normal(1e6, 2e5, count),
            "city": random.choice(["Oslo", "Rome", "Bonn"], count),
        }
    )
    frame["price"] = 2.5 * frame["age"] + frame["income"] / 1e4 + random.normal(size=count)
    frame["kind"] = np.where(frame["age"] > 50, "old", np.where(frame["city"] == "Oslo", "north", "south"))
    frame["rich"] = (frame["income"] > 1e6).astype(int)
    return frame

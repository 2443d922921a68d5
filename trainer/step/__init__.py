"""From a batch to an update: `step.py` reads as the diagram, the other files are its parts.

Numbers that travel per replica and step, for shared variables of sizes nᵥ reached by kᵥ losses each, and m
task-specific numbers:

    a pass per loss         Σ kᵥ nᵥ + m + 2 K, in one collective
    ... of two half batches 2 Σ kᵥ nᵥ + m + 4 K, in one
    fused                   Σ nᵥ + m + 2 K, in one; where labels can be missing, or the coefficients of this step come
                            from the losses' values, the 2 K go first, in one of their own
    features                K² + 2 K in float64, then Σ nᵥ + m
    observing               2 K more

Where masks or an ignored class take values out of a loss with `normalizer: examples`, 2 K is 3 K.
    over the global batch   what such losses read of all replicas' examples, in one collective more for each dtype
"""

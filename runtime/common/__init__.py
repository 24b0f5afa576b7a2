"""What every package uses: errors, whole files, records, commands, the offline guard."""

PACKAGES = (
    *("algebra", "runtime", "inferencePipeline", "convert", "kb"),
    *("training", "evaluation", "benchmarks", "lab"),
)

"""The operations that training spends its time in: one interface (`ops`), backends `cpu`, `gpu` and `reference`."""

"""Probes of codes: what windows show by labels, numbers of windows, and what a linear map tells of one."""

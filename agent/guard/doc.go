// Package guard keeps a broker's disk from filling up: it watches the share in use and, above a threshold, acts by the
// instance's policy — deletes the oldest data, or refuses produce until there is room again.
//
// It is not an alarm and needs none: it has its own loop, its own probe with a deadline, and works while sampler, rule
// files or the broker are stuck. What it does it tells three ways: numbers (Samples, which rules watch), events to the
// audit log, background tasks for what was ordered (a changed policy).
//
// Invariant: nothing that may hang is called by the loop itself. Probe, deletion and telling have a goroutine each, at
// most one of a kind; the brake and the switches must be wait-free.
//
// The road in: Usage → Machine (pure) → Brake, Cleaner. The road out: Samples, Auditor, Tasks.
//
// # After a restart
//
// Prime reads the disk once before the listeners open. Above the threshold the brake is on from the first moment. In the
// hysteresis band (threshold − hysteresis ≤ usage < threshold) the reading alone cannot tell whether produce was
// refused before, so that one bit is kept in a Memory: refused before → refused now. Without the bit produce is
// accepted. Why not refuse to be safe: a node that has lived at 92 % for months would stop taking messages after a
// harmless restart, and would not start again by itself; the other mistake costs nothing, for the brake comes back at
// the threshold.
package guard

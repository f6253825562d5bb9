// Package record reads and writes record batches, the unit that clients send,
// logs store and followers copy.
//
// A batch is checked once at the door (Check) and trusted after that. Only magic 2 is
// stored; what older clients send is made into it (Convert) and made back for them
// (Downgrade). The package knows no files, sockets or clocks. Offsets, positions and
// sizes are never mixed: an Offset counts records. FORMAT.md says what the bytes mean.
//
// Invariant: no input makes a function of this package panic, run without bound or hold
// more memory than its caps say.
package record

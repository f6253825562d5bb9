package replica

// flaws are rules that are broken on purpose, to prove that the simulation in simulation_test.go, and the tests
// of real processes (cmd/belfry/chaos), see it. All false, everywhere but there: no option sets them, and a program
// that was not built with the tag "planted" cannot have any.
type flaws struct {
	cutToHW       bool // a follower truncates to its high watermark, not by epoch (R2)
	unfenced      bool // leader epochs are not compared (R3)
	committedOnly bool // the high watermark looks at the committed set only (R4)
	early         bool // a follower acknowledges what is not on its disk yet (R17)
	rashRollBack  bool // an answer that does not say whether a change was made rolls it back (R8)
	anyJoins      bool // a follower joins the in-sync set wherever it is (R8)
	hasty         bool // acks=all is answered when the leader has the records (R4)
	blind         bool // a follower does not look at check sums (R21)
	forgetful     bool // a damaged replica begins anew while it is counted on (R20)
	zombies       bool // a follower's broker epoch is not looked at (R8)
	undecided     bool // readers of committed messages are given those of open transactions (R6)
}

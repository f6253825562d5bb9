package replica

// flaws are rules that are broken on purpose, to prove that the simulation in
// simulation_test.go sees it. All false, everywhere but there: no option sets them.
type flaws struct {
	cutToHW       bool // a follower truncates to its high watermark, not by epoch (R2)
	unfenced      bool // leader epochs are not compared (R3)
	committedOnly bool // the high watermark looks at the committed set only (R4)
	early         bool // a follower acknowledges what is not on its disk yet (R17)
	rashRollBack  bool // an answer that does not say whether a change was made rolls it back (R8)
	anyJoins      bool // a follower joins the in-sync set wherever it is (R8)
	zombies       bool // a follower's broker epoch is not looked at (R8)
}

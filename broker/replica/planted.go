//go:build planted

package replica

import "os"

// planted gives the flaw that the environment names, for the tests that must see it.
func planted() flaws {
	switch os.Getenv("BELFRY_PLANTED") {
	case "truncation to the high watermark":
		return flaws{cutToHW: true}
	case "no epoch fencing":
		return flaws{unfenced: true}
	case "early acknowledgement":
		return flaws{hasty: true}
	case "anybody joins the in-sync set":
		return flaws{anyJoins: true}
	case "skipped check sums":
		return flaws{blind: true}
	case "reads of open transactions":
		return flaws{undecided: true}
	case "a damaged replica begins anew while it counts":
		return flaws{forgetful: true}
	default:
		return flaws{} // it is another room's, or none
	}
}

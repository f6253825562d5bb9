//go:build planted

package replica

import "os"

// planted gives the flaw that the environment names, for the tests that must see it.
func planted() flaws {
	switch name := os.Getenv("BELFRY_PLANTED"); name {
	case "":
		return flaws{}
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
	case "a damaged replica begins anew while it counts":
		return flaws{forgetful: true}
	default:
		panic("BUG: no flaw is called " + name)
	}
}

package stats

import "testing"

func TestStandingThereAndBack(t *testing.T) {
	for _, want := range []Standing{{}, {Epoch: 1 << 40, Leaving: true}, {Epoch: -1}} {
		b := want.Append([]byte("x"))[1:]
		if got, err := ReadStanding(append(b, 7)); err != nil || got != want {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
		if got, err := ReadStanding(b[:len(b)-1]); err == nil {
			t.Errorf("a cut one is read as %+v", got)
		}
	}
}

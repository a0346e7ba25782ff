package workflows

import "github.com/rekeyhq/rekey/rotation"

// apart tells whether this rotation gives way to one of a key that it keeps apart from. Then next is where it goes.
func (r *rotator) apart() (next rotation.Phase, givesWay bool) {
	if len(r.in.Key.ApartFrom) == 0 || r.emergency() {
		return "", false
	}
	other, f, ok := do[string](r, asking(), "look whether a key that this one keeps apart from rotates now", acts.Apart, r.target())
	switch {
	case !ok:
		return r.nothingDone(f), true
	case other == "":
		return "", false
	}
	r.NotDue, r.Outcome = true, "Not due: apart from "+other+", which rotates now."
	return rotation.Completed, true
}

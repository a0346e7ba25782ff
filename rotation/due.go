package rotation

import (
	"fmt"
	"time"
)

// Facts are what the due rule looks at.
type Facts struct {
	Now    time.Time
	Reason Reason
	// HasCurrent: applications read a value, in one store at least.
	HasCurrent bool
	// StoresDisagree: applications read different values in different stores, or in some of them none.
	StoresDisagree bool
	// CurrentRefused: the provider refuses the value that applications read.
	CurrentRefused bool
	// BornAt is when the current key was made, as the provider says, else the store. Zero if neither does.
	BornAt time.Time
	// ExpiresAt is when the provider ends the current key by itself; zero if it does not.
	ExpiresAt time.Time
	// Duties is how many keys wait to be revoked: earlier rotations have left them, or they leaked.
	Duties int
	// LeakNamed: an emergency names what leaked; CurrentLeaked: the value that applications read is among it.
	LeakNamed, CurrentLeaked bool
}

// Work says what a due rotation has to do.
type Work string

const (
	// Nothing is due.
	Nothing Work = "nothing"
	// Rotate: make a new key.
	Rotate Work = "rotate"
	// Finish: revoke what an earlier rotation left; the current key is fresh enough.
	Finish Work = "finish"
)

// Verdict is the answer of the due rule.
type Verdict struct {
	Work Work `json:"work"`
	// Rule is a short name of the rule that decided.
	Rule string `json:"rule"`
	// Message says why, in a sentence.
	Message string `json:"message"`
	// DueAt is when the key is due, by its age or because the provider ends it; zero if that cannot be known.
	DueAt time.Time `json:"dueAt,omitzero"`
}

// dueRules are asked in this order; the first that has an opinion decides.
var dueRules = []func(Facts, Policy) (Verdict, bool){
	noCurrent, leakedOther, asked, storesDisagree, currentRefused, expiring, tooOld, leftDuties, ageUnknown,
}

// Due decides whether there is work for a rotation, and which.
func Due(f Facts, p Policy) Verdict {
	for _, rule := range dueRules {
		if v, decided := rule(f, p); decided {
			v.DueAt = dueAt(f, p)
			return v
		}
	}
	return Verdict{
		Work: Nothing, Rule: "fresh", DueAt: dueAt(f, p),
		Message: fmt.Sprintf("The key was made at %s and is due at %s.", f.BornAt.Format(time.RFC3339), dueAt(f, p).Format(time.RFC3339)),
	}
}

func dueAt(f Facts, p Policy) time.Time {
	var at time.Time
	if !f.BornAt.IsZero() {
		at = f.BornAt.Add(time.Duration(p.Period))
	}
	if ends := f.ExpiresAt.Add(-lead(p)); !f.ExpiresAt.IsZero() && (at.IsZero() || ends.Before(at)) {
		at = ends
	}
	return at
}

// lead leaves time for a grace period and for one missed daily beat before the provider ends a key.
func lead(p Policy) time.Duration { return time.Duration(p.Grace) + 2*day }

func noCurrent(f Facts, _ Policy) (Verdict, bool) {
	return Verdict{Work: Rotate, Rule: "no-current", Message: "No store has a value that applications can read yet."}, !f.HasCurrent
}

// leakedOther is for an emergency that names values of which applications read none: no new key is needed.
func leakedOther(f Facts, _ Policy) (Verdict, bool) {
	other := f.Reason == Emergency && f.LeakNamed && !f.CurrentLeaked && !f.StoresDisagree && !f.CurrentRefused
	if f.Duties == 0 {
		return Verdict{Work: Nothing, Rule: "not-live", Message: "What leaked is not live any more: applications do not read it, and no store has such a value that the provider accepts."}, other
	}
	return Verdict{Work: Finish, Rule: "leaked", Message: fmt.Sprintf("Applications do not read what leaked; %d key(s) are left to be revoked.", f.Duties)}, other
}

func asked(f Facts, _ Policy) (Verdict, bool) {
	return Verdict{Work: Rotate, Rule: "asked", Message: fmt.Sprintf("This is a rotation of reason %s: it does not ask for the key's age.", f.Reason)},
		f.Reason == Manual || f.Reason == Emergency
}

func storesDisagree(f Facts, _ Policy) (Verdict, bool) {
	return Verdict{Work: Rotate, Rule: "stores-disagree", Message: "Applications do not read the same value in every store; one new key will be in all of them."}, f.StoresDisagree
}

func currentRefused(f Facts, _ Policy) (Verdict, bool) {
	return Verdict{Work: Rotate, Rule: "current-refused", Message: "The provider refuses the value that applications read: it died before its time."}, f.CurrentRefused
}

func expiring(f Facts, p Policy) (Verdict, bool) {
	return Verdict{Work: Rotate, Rule: "expiring", Message: "The provider ends the current key at " + f.ExpiresAt.Format(time.RFC3339) + "."},
		!f.ExpiresAt.IsZero() && f.Now.Add(lead(p)).After(f.ExpiresAt)
}

func tooOld(f Facts, p Policy) (Verdict, bool) {
	return Verdict{Work: Rotate, Rule: "age", Message: fmt.Sprintf("The key was made at %s and its period is %s.", f.BornAt.Format(time.RFC3339), p.Period)},
		!f.BornAt.IsZero() && !f.Now.Before(f.BornAt.Add(time.Duration(p.Period)))
}

func leftDuties(f Facts, _ Policy) (Verdict, bool) {
	return Verdict{Work: Finish, Rule: "duties", Message: fmt.Sprintf("An earlier rotation did not end: %d key(s) are left to be revoked.", f.Duties)}, f.Duties > 0
}

func ageUnknown(f Facts, _ Policy) (Verdict, bool) {
	return Verdict{Work: Nothing, Rule: "age-unknown", Message: "Neither the provider nor a store reports when the key was made, so nobody can say whether it is due. A manual rotation settles it."},
		f.BornAt.IsZero()
}

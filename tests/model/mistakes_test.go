package model

import (
	"errors"
	"strings"
	"testing"
)

// Each mistake is looked for in the stories in which it matters, a few inputs away from the ordinary way.
var mistakes = []struct {
	name   string
	broken Breakage
	// story, if named, is the one in which it must be noticed.
	story string
}{
	{"a step decides before it has heard what arrived with its result", DecideFirst, ""},
	{"an emergency does not clear a roll-back that was asked for", KeepRequest | DoRequest | OffDiagram, ""},
	{"an emergency joins a rotation that is rolling back", JoinBackwards, ""},
	{"no other rotation follows when the new key leaked", IgnoreNewKey, ""},
	{"prepare is not done again when an emergency came while it looked", OldEyes, ""},
	{"an emergency leaves the way back open", StayBothKeys, ""},
	{"a refused delete returns to both keys although an emergency came meanwhile", ReturnToLeaked, ""},
	{"the old key goes without guard", SkipGuard | OffDiagram, ""},
	{"the old key goes before grace is over", SkipGrace, ""},
	{"one signature is enough", OneSignature, ""},
	{"the activity asks for no signatures", NoSignatures, ""},
	{"missing signatures do not make guard ask again", KeepMandate, ""},
	{"nothing waits for a revoke that was not answered", NoSettling, ""},
	{"a roll-back enables as long as the key is refused", EnableForEver, ""},
	{"nobody waits out the horizon", NoHorizon, ""},
	{"what abandoned attempts left stays", NoSweep, ""},
	{"promote writes no duties down", NoDuties, ""},
	{"promote forgets the incoming duty before the flip", ForgetFirst, ""},
	{"the value is brought to one store only", SkipStore | VerifyOneStore, ""},
	{"verify looks at nothing", NoVerify, ""},
	{"grace begins early, and a revoke does not look into the stores first", HalfPromote | TakeCurrent, ""},
	{"a revoke does not prove once more what stays", NoProof, ""},
	{"nobody looks whether the key is revoked before it is forgotten", SkipConfirm | RetireBlindly | OffDiagram, ""},
	{"a rotation that follows forgets what the one before it left", ForgetPredecessor, ""},
	{"a rotation that was reset publishes what had leaked", PublishOwnLeaked, ""},
	{"a rotation that was reset publishes what it went back from", PublishRolledBack, ""},
	{"a rotation that was reset goes back to what leaked", DiscardIntoLeaked, ""},
	{"a roll-back that is given up publishes what was not proven again", PublishUnproven, ""},
	{"a rotation that only finishes leaves what is staged", LeavePending, ""},
	{"a key that did not pass is proven for ever", ProveTheDead, ""},
	{"a roll-back deletes a key that a person made", DeleteSupplied, ""},
	{"grace begins when the first store has the value", HalfPromote, ""},
}

func TestEveryMistakeIsNoticed(t *testing.T) {
	t.Parallel()
	for _, mistake := range mistakes {
		t.Run(mistake.name, func(t *testing.T) {
			for _, depth := range []int{3, 6, 9} {
				for i := range Shapes {
					if mistake.story != "" && mistake.story != Shapes[i].Name {
						continue
					}
					m := Model{mistake.broken}
					e, err := m.Explore(Model{}.Ways(i), depth)
					if err == nil {
						err = m.End(e)
					}
					var v *Violation
					if errors.As(err, &v) {
						t.Logf("%v\n  %s (%d inputs from the ordinary way)", v.Err, Shapes[i].Name, strings.Count(err.Error(), "\n")-1)
						return
					}
				}
			}
			t.Errorf("nothing notices that %s", mistake.name)
		})
	}
}

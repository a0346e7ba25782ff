package engine_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
	"github.com/rekeyhq/rekey/secret"
)

// operators sign for the key from now on.
func (s setup) operators(t *testing.T, names ...string) setup {
	t.Helper()
	for _, name := range names {
		key, err := ssh.NewSignerFromSigner(ed25519.NewKeyFromSeed([]byte((name + strings.Repeat(".", 32))[:32])))
		if err != nil {
			t.Fatal(err)
		}
		s.opts.Operators = append(s.opts.Operators, fmt.Sprintf("{name: %s, ssh_key: %q}", name, signed.Line(key.PublicKey())))
	}
	s.opts.Policy = append(s.opts.Policy, "four_eyes: true")
	return s
}

// B1.
func TestAQuestionWhoseDeadlinePassesWithoutAWayBackGoesOnWaiting(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		setup func(*testing.T) setup
		// before is done to the old key before the rotation.
		before func(*skipping)
	}{
		"the old key was refused": {
			setup:  func(t *testing.T) setup { return googleKey().told(t) },
			before: func(r *skipping) { r.dead() },
		},
		"the old key was refused, and two operators have to sign": {
			setup:  func(t *testing.T) setup { return googleKey().told(t).operators(t, "alice", "bob") },
			before: func(r *skipping) { r.dead() },
		},
		"there was no key": {
			setup: func(t *testing.T) setup {
				s := googleKey().told(t)
				s.edit = func(yaml string) string {
					return strings.NewReplacer("path: ci}", "path: empty}", "path: ci-latest}", "path: empty-latest}").Replace(yaml)
				}
				return s
			},
			before: func(r *skipping) {
				r.emptyPlaces()
				// From when the new key is proven on, nobody can report whether anything is left.
				r.during(simcloud.GoogleTokenService, "Token", func() { r.refuse("ListServiceAccountKeys") })
			},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			r := newSkipping(t, tc.setup(t))
			tc.before(r)
			// What is asked about cannot be put right.
			r.refuse("DisableServiceAccountKey")
			r.refuse("DeleteServiceAccountKey")
			r.at(12*day, func() {
				s := r.status()
				if s.Phase != rotation.AwaitingApproval || !s.Overdue {
					t.Errorf("phase %s, overdue: %t\n%s", s.Phase, s.Overdue, s.Details)
				}
				if !strings.Contains(r.words(), "OVERDUE, a person is needed: ci") {
					t.Errorf("nobody was told that it is overdue:\n%s", r.words())
				}
				r.end()
			})
			r.run(13 * day)
		})
	}
}

// dead is a person who disables the old key before the rotation.
func (w *fixture) dead() {
	w.rules.MayDie = append(w.rules.MayDie, w.oldID)
	w.disable(w.oldID)
}

// refuse makes Google refuse a method to the end.
func (w *fixture) refuse(method string) (remove func()) {
	return w.Cloud.Inject(simcloud.Fault{Service: google, Method: method, Kind: simcloud.Refuse, Code: 400})
}

// emptyPlaces makes the stores of a key that has no value yet.
func (w *fixture) emptyPlaces() {
	w.Helper()
	for _, id := range []string{"empty", "empty-latest", "empty-latest-rekey-pending"} {
		if err := w.SM.CreateSecret(id, secret.Value{}); err != nil {
			w.Fatal(err)
		}
	}
}

// B3.
func TestARollBackThatIsAskedForTwiceWaitsUntilTheOldKeyCanBeEnabledAgain(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	remove := r.Cloud.Inject(simcloud.Fault{Service: google, Method: "EnableServiceAccountKey", Kind: simcloud.Refuse, Code: 403})
	r.at(2*day+30*time.Minute, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	r.at(2*day+40*time.Minute, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{By: "ana", Why: "where does it stay"}) })
	r.at(2*day+5*time.Hour, remove)
	r.unchanged(r.run(10 * day))
}

// B5.
func TestARotationThatIsToComeBackTomorrowSaysSo(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, googleKey())
	remove := r.Cloud.Inject(simcloud.Fault{Service: google, Method: "ListServiceAccountKeys", Kind: simcloud.Refuse, Code: 429, RetryAfter: day})
	r.at(2*time.Hour, func() {
		s := r.status()
		if s.Phase != rotation.Prepare || strings.Contains(s.Details, "No action needed") || !strings.Contains(s.Details, "too many requests") {
			t.Errorf("the details of %s do not say what it waits for:\n%s", s.Phase, s.Details)
		}
	})
	r.at(3*time.Hour, remove)
	// A day's wait, and two of grace.
	r.gone(r.run(4*day), r.oldID)
}

// B6.
func TestAWaitThatLastsIsShownAndTold(t *testing.T) {
	t.Parallel()
	for sentence, tc := range map[string]struct {
		policy []string
		// begin makes the wait, from the moment after on.
		after time.Duration
		begin func(*skipping) (mend func())
		// back: the rotation ends where it began.
		back bool
	}{
		"applications do not read what was promoted": {
			begin: func(r *skipping) func() {
				r.Cloud.SetTiming(simcloud.Timing{AliasLag: 2*time.Hour + 30*time.Minute})
				return func() {}
			},
		},
		"the new key cannot be discarded": {
			begin: func(r *skipping) func() {
				r.during(sm, "AddSecretVersion", func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
				return r.refuse("DeleteServiceAccountKey")
			}, back: true,
		},
		"the old key cannot be enabled again": {
			after: 2*day + 30*time.Minute,
			begin: func(r *skipping) func() {
				r.signal(rotation.RollBack, rotation.DecisionMessage{})
				return r.refuse("EnableServiceAccountKey")
			}, back: true,
		},
		"the new key cannot be looked at": {
			policy: []string{"grace: 3d", "recheck: 5m"},
			after:  time.Minute,
			begin: func(r *skipping) func() {
				return r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleTokenService, Kind: simcloud.Refuse, Code: 503})
			},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			r := newSkipping(t, googleKey(append(tc.policy, "patience: 30m")...).told(t))
			mend := func() {}
			if tc.after == 0 {
				mend = tc.begin(r)
			} else {
				r.at(tc.after, func() { mend = tc.begin(r) })
			}
			r.at(tc.after+time.Hour, func() {
				if r.wantTold(); t.Failed() {
					r.end()
				}
			})
			r.at(tc.after+2*time.Hour, func() {
				// A question has a deadline of its own.
				if s := r.status(); !s.Overdue && s.Phase != rotation.AwaitingApproval {
					t.Errorf("after two hours it is not overdue:\n%s", s.Details)
				}
				if mend(); tc.back {
					// Needless where it tries again by itself.
					r.signal(rotation.Approve, rotation.DecisionMessage{})
				}
			})
			res := r.run(10 * day)
			if tc.back {
				r.unchanged(res)
			} else {
				r.gone(res, r.oldID)
			}
		})
	}
}

// longHistory is about the most events of a run: Temporal suggests another run at 4096, and ends it at 51,200.
const longHistory = 5000

// B7.
func TestWeeksWithoutAPermissionFillNoHistory(t *testing.T) {
	t.Parallel()
	s := googleKey()
	r := newSkipping(t, s)
	remove := r.Cloud.Inject(simcloud.Fault{Service: sm, Kind: simcloud.Refuse, Code: 403})
	r.at(20*day, remove)
	r.gone(r.run(30*day), r.oldID)
	// A rotation that waits for nothing has about 150 events, most of them of two days of grace.
	if n := r.longest(); n > 150+3*weekOfWaiting {
		t.Errorf("a run of %d events, of %d runs", n, len(r.histories))
	}
}

// B7.
func TestThousandsOfMessagesInAWaitFillNoHistory(t *testing.T) {
	t.Parallel()
	r := newSkipping(t, manualKey())
	const notes = 3000
	r.every(10*time.Second, notes, time.Hour, func(i int) {
		r.signal(rotation.AddNote, rotation.DecisionMessage{By: "a script", Why: fmt.Sprint("note ", i)})
	})
	r.at(20*time.Hour, func() {
		if s := r.status(); s.Phase != rotation.AwaitingKey || !strings.Contains(s.Details, fmt.Sprint("note ", notes-1)) {
			t.Errorf("phase %s\n%s", s.Phase, s.Details)
		}
		r.end()
	})
	r.run(day)
	if n := r.longest(); n > longHistory || len(r.histories) < 2 {
		t.Errorf("a run of %d events, of %d runs", n, len(r.histories))
	}
}

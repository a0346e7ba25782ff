package workflows_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// sshKey is a person's SSH key, always the same for the same name.
func sshKey(t *testing.T, name string) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(ed25519.NewKeyFromSeed([]byte((name + strings.Repeat(".", 32))[:32])))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fourEyes is a key under four eyes, with alice, bob and carol as operators.
func fourEyes(t *testing.T, s setup) setup {
	t.Helper()
	for _, name := range []string{"alice", "bob", "carol"} {
		s.opts.Operators = append(s.opts.Operators, fmt.Sprintf("{name: %s, ssh_key: %q}", name, signed.Line(sshKey(t, name).PublicKey())))
	}
	return s.policy("four_eyes: true", quick)
}

// signedBy is what a person sends who signs the present question.
func (r *fixture) signedBy(name string, change ...func(*rotation.Question, *rotation.DecisionMessage)) rotation.DecisionMessage {
	r.Helper()
	s := r.status()
	if s.Signing == nil {
		r.Fatalf("%s has nothing to sign in %s:\n%s", name, s.Phase, s.Details)
	}
	q := s.Signing.Question
	m := rotation.DecisionMessage{ID: fmt.Sprint(name, q.Number), By: name, Why: "dashboards", SignedAt: r.now()}
	for _, f := range change {
		f(&q, &m)
	}
	return r.sign(name, q, m)
}

func (r *fixture) sign(name string, q rotation.Question, m rotation.DecisionMessage) rotation.DecisionMessage {
	r.Helper()
	var err error
	if m.Signature, err = signed.Sign(sshKey(r.T, name), signed.Text(q, m)); err != nil {
		r.Fatal(err)
	}
	return m
}

// reply is what became of an update. The environment answers after the moment at which it is sent.
type reply struct {
	r *fixture
	// want is a part of the refusal that is expected; empty: the update is taken.
	want string
	then func(rotation.Status)
	done bool
}

// Accept and the two below implement the environment's callbacks.
func (a *reply) Accept() {
	if a.want != "" {
		a.done = true
		a.r.Errorf("an update was accepted, want a refusal with %q", a.want)
	}
}

// Reject is called by a validator that refuses: nothing of it is in the history.
func (a *reply) Reject(err error) {
	if a.done = true; a.want == "" || !strings.Contains(err.Error(), a.want) {
		a.r.Errorf("refused with %q, want %q", err, a.want)
	}
}

func (a *reply) Complete(result any, err error) {
	a.done = true
	if s, ok := result.(rotation.Status); err != nil || !ok {
		a.r.Errorf("got %v, %v", result, err)
	} else if a.then != nil {
		a.then(s)
	}
}

// update sends an update, as the command line does.
func (r *fixture) update(kind rotation.DecisionKind, m rotation.DecisionMessage, a *reply) {
	a.r = r
	sent := r.now()
	r.Cleanup(func() {
		if !a.done {
			r.Errorf("an update of %s was not answered (want %q)", sent, a.want)
		}
	})
	// An id of its own each time: Temporal answers a repeated one itself.
	r.updates++
	r.env.UpdateWorkflow(string(kind), fmt.Sprint(r.updates), a, m)
}

// takes sends an update that is taken, refuses one that is refused before it enters the history, with such words.
func (r *fixture) takes(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	r.update(kind, m, &reply{})
}

func (r *fixture) refuses(words string, kind rotation.DecisionKind, m rotation.DecisionMessage) {
	r.update(kind, m, &reply{want: words})
}

// removed takes an operator out of the worker's rekey.yaml.
func (r *fixture) removed(name string) {
	r.acts.Operators = slices.DeleteFunc(slices.Clone(r.acts.Operators), func(o rotation.Operator) bool { return o.Name == name })
}

// asking is a moment at which the question before the revoke stands: grace is two days.
const asking = 2*day + time.Hour

func TestUnderFourEyesTwoOperatorsSignBeforeTheRevoke(t *testing.T) {
	t.Parallel()
	for sentence, s := range map[string]setup{"a Google key": bothStores(), "a key that a person revokes": manualKey()} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, fourEyes(t, s))
			wait := time.Duration(0)
			if s.openai {
				r.after(time.Hour, func() { r.supply() })
				wait = time.Hour
			}
			r.after(wait+asking, func() {
				st := r.status()
				if st.Phase != rotation.AwaitingApproval || st.Signing == nil || st.Signing.Needed != 2 || len(st.Signing.Signed) != 0 {
					t.Fatalf("%s, %+v", st.Phase, st.Signing)
				}
				for _, want := range []string{"two different operators run `rekey approve " + r.key.Name + "`", "Signed: nobody yet", "cannot sign"} {
					if !strings.Contains(st.Details, want) {
						t.Errorf("the details do not say %q:\n%s", want, st.Details)
					}
				}
				if !slices.Equal(st.Signing.Revokes, []string{r.status().Old[0]}) && !slices.Equal(st.Signing.Revokes, []string{r.oldID}) {
					t.Errorf("what is signed names %v", st.Signing.Revokes)
				}
				first := r.signedBy("alice")
				r.update(rotation.Approve, first, &reply{then: func(s rotation.Status) {
					if s.Signing == nil || !slices.Equal(s.Signing.Names(), []string{"alice"}) {
						t.Errorf("after the first: %+v", s.Signing)
					}
				}})
				r.takes(rotation.Approve, first) // the reply was lost, and it was sent again
			})
			r.after(wait+asking+time.Hour, func() {
				st := r.status()
				if st.Phase != rotation.AwaitingApproval || !strings.Contains(st.Details, "Signed: 1 of 2: alice") {
					t.Errorf("%s:\n%s", st.Phase, st.Details)
				}
				if !r.live(r.oldID) {
					t.Error("one of two was enough")
				}
				r.takes(rotation.Approve, r.signedBy("bob"))
			})
			if s.openai {
				r.after(4*day, func() {
					_ = r.OpenAI.DeleteKey(r.oldID)
					r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
				})
			}
			res := r.run()
			r.replaced(res)
			var signers []string
			for _, d := range res.Decisions {
				if d.Kind == rotation.Approve {
					if d.Signer == nil || d.Signature == "" || d.Signer.Fingerprint != ssh.FingerprintSHA256(sshKey(t, d.By).PublicKey()) {
						t.Errorf("the record of %s: %+v", d.By, d)
						continue
					}
					signers = append(signers, d.Signer.Operator)
				}
			}
			if !slices.Equal(signers, []string{"alice", "bob"}) {
				t.Errorf("the result names %v", signers)
			}
			if len(res.FollowUps) > 0 {
				t.Errorf("left: %v", res.FollowUps)
			}
		})
	}
}

func TestUnderFourEyesWhatDoesNotCountIsRefusedBeforeTheHistory(t *testing.T) {
	t.Parallel()
	r := newFixture(t, fourEyes(t, bothStores()))
	r.after(asking, func() {
		r.refuses("rekey approve ci", rotation.Approve, rotation.DecisionMessage{By: "alice", Why: "w"})
		r.refuses("belongs to no operator", rotation.Approve, r.signedBy("mallory"))
		r.refuses("not over this message and the present question", rotation.Approve, r.signedBy("alice", func(q *rotation.Question, _ *rotation.DecisionMessage) { q.Rotation = "aaaaaaaa" }))
		r.refuses("before the present question", rotation.Approve, r.signedBy("alice", func(_ *rotation.Question, m *rotation.DecisionMessage) { m.SignedAt = r.now().Add(-day) }))
		finish := r.signedBy("alice", func(q *rotation.Question, _ *rotation.DecisionMessage) { q.Kind = rotation.FinishGrace })
		r.refuses("not over this message", rotation.Approve, finish)
		r.refuses("is for the phase grace", rotation.FinishGrace, finish)
		alice := r.signedBy("alice")
		r.update(rotation.Approve, alice, &reply{then: func(s rotation.Status) {
			if n := len(s.Signing.Signed); n != 1 {
				t.Errorf("%d signatures count, want only this one", n)
			}
		}})
		again := func(_ *rotation.Question, m *rotation.DecisionMessage) { m.ID = "another id" }
		r.refuses("alice has signed this already; another operator has to: rekey approve ci", rotation.Approve, r.signedBy("alice", again))

		// A signal cannot be refused; it is answered in the details.
		r.signal(rotation.Approve, rotation.DecisionMessage{By: "bob", Why: "w"})
	})
	r.after(asking+time.Minute, func() {
		if s := r.status(); !strings.Contains(s.Details, "was not accepted") || !strings.Contains(s.Details, "needs the signatures of 2 different operators") {
			t.Errorf("the signal is not answered:\n%s", s.Details)
		}
		r.signal(rotation.Approve, r.signedBy("alice", func(_ *rotation.Question, m *rotation.DecisionMessage) { m.ID = "a third id" }))
	})
	r.after(asking+2*time.Minute, func() {
		if s := r.status(); s.Phase != rotation.AwaitingApproval || !strings.Contains(s.Details, "alice has signed this already") {
			t.Errorf("the second signal is not answered:\n%s", s.Details)
		}
		m := r.signedBy("bob")
		m.ID, m.Why = "", "" // as short as a signal can be
		q := r.status().Signing.Question
		r.signal(rotation.Approve, r.sign("bob", q, m))
	})
	r.replaced(r.run())
}

func TestASignatureOfAnEarlierQuestionDoesNotAnswerTheNext(t *testing.T) {
	t.Parallel()
	r := newFixture(t, fourEyes(t, bothStores()))
	var old rotation.DecisionMessage
	r.after(asking, func() {
		old = r.signedBy("alice")
		r.takes(rotation.Approve, old)
		r.signal(rotation.ExtendGrace, rotation.DecisionMessage{For: rotation.Duration(time.Hour)})
	})
	r.after(asking+90*time.Minute, func() {
		s := r.status()
		if s.Phase != rotation.AwaitingApproval || len(s.Signing.Signed) != 0 {
			t.Fatalf("asked anew, %s counts: %+v", s.Phase, s.Signing)
		}
		r.refuses("before the present question was asked", rotation.Approve, old)
		r.takes(rotation.Approve, r.signedBy("bob"))
	})
	r.after(asking+2*time.Hour, func() {
		if r.status().Phase != rotation.AwaitingApproval {
			t.Error("an answer to the question before counts for this one")
		}
		r.takes(rotation.Approve, r.signedBy("alice"))
	})
	r.replaced(r.run())
}

func TestWhoIsNoOperatorAnyMoreDoesNotCount(t *testing.T) {
	t.Parallel()
	t.Run("removed before the question", func(t *testing.T) {
		r := newFixture(t, fourEyes(t, bothStores()))
		r.after(day, func() { r.removed("alice") })
		r.after(asking, func() {
			r.refuses("belongs to no operator: the worker's rekey.yaml names bob, carol", rotation.Approve, r.signedBy("alice"))
			r.takes(rotation.Approve, r.signedBy("bob"))
			r.takes(rotation.Approve, r.signedBy("carol"))
		})
		r.replaced(r.run())
	})
	t.Run("removed after having signed", func(t *testing.T) {
		r := newFixture(t, fourEyes(t, bothStores()))
		r.after(asking, func() { r.takes(rotation.Approve, r.signedBy("alice")) })
		r.after(asking+time.Hour, func() {
			r.removed("alice")
			r.takes(rotation.Approve, r.signedBy("bob"))
		})
		r.after(asking+2*time.Hour, func() {
			s := r.status()
			if s.Phase != rotation.AwaitingApproval || !slices.Equal(s.Signing.Names(), []string{"bob"}) || !strings.Contains(s.Details, "signature of alice no longer counts") {
				t.Errorf("%s, signed by %v:\n%s", s.Phase, s.Signing.Names(), s.Details)
			}
			r.takes(rotation.Approve, r.signedBy("carol"))
		})
		r.replaced(r.run())
	})
	t.Run("removed between the last signature and the revoke", func(t *testing.T) {
		r := newFixture(t, fourEyes(t, bothStores()))
		r.after(asking, func() {
			// The guard looks once more after the approval, and the revoke comes next.
			r.whenStarted("Guard", func() { r.removed("alice") })
			r.takes(rotation.Approve, r.signedBy("alice"))
			r.takes(rotation.Approve, r.signedBy("bob"))
		})
		r.after(asking+time.Hour, func() {
			s := r.status()
			if s.Phase != rotation.AwaitingApproval || len(s.Signing.Signed) != 0 || !r.live(r.oldID) {
				t.Fatalf("%s, %+v", s.Phase, s.Signing)
			}
			r.takes(rotation.Approve, r.signedBy("bob"))
			r.takes(rotation.Approve, r.signedBy("carol"))
		})
		r.replaced(r.run())
	})
	t.Run("made an operator after the question", func(t *testing.T) {
		r := newFixture(t, fourEyes(t, bothStores()))
		r.acts.Operators = r.acts.Operators[:2]
		r.after(asking, func() {
			r.acts.Operators = append(slices.Clone(r.acts.Operators), rotation.Operator{Name: "carol", Key: signed.Line(sshKey(t, "carol").PublicKey())})
			r.refuses("belongs to no operator", rotation.Approve, r.signedBy("carol"))
			r.takes(rotation.Approve, r.signedBy("alice")) // reads the list again
		})
		r.after(asking+time.Minute, func() { r.takes(rotation.Approve, r.signedBy("carol")) })
		r.replaced(r.run())
	})
}

func TestUnderFourEyesTheDeadlineComesWithOneOfTwo(t *testing.T) {
	t.Parallel()
	r := newFixture(t, fourEyes(t, bothStores()))
	r.after(asking, func() { r.takes(rotation.Approve, r.signedBy("alice")) })
	// The way back ends with a revoke as well: of the new key.
	r.after(12*day, func() {
		s := r.status()
		if s.Phase != rotation.RollingBack || s.Signing == nil {
			t.Fatalf("%s\n%s", s.Phase, s.Details)
		}
		r.takes(rotation.Approve, r.signedBy("bob"))
		r.takes(rotation.Approve, r.signedBy("carol"))
	})
	res := r.run()
	r.unchanged(res)
	if !strings.Contains(res.Outcome, "Only 1 of 2 operators (alice) approved by") {
		t.Errorf("outcome: %s", res.Outcome)
	}
}

func TestUnderFourEyesTheGracePeriodEndsEarlyWithTwoSignatures(t *testing.T) {
	t.Parallel()
	r := newFixture(t, fourEyes(t, bothStores()))
	begin := r.now()
	var old rotation.DecisionMessage
	r.after(time.Hour, func() {
		r.refuses(`rekey finish-grace ci --why "…"`, rotation.FinishGrace, rotation.DecisionMessage{By: "alice", Why: "w"})
		old = r.signedBy("alice")
		r.update(rotation.FinishGrace, old, &reply{then: func(s rotation.Status) {
			if !strings.Contains(s.Details, "Signed: 1 of 2: alice") {
				t.Errorf("the details do not say who has signed:\n%s", s.Details)
			}
		}})
	})
	r.after(90*time.Minute, func() {
		// Somebody wants it longer: who signed for its end has not agreed to overrule that.
		r.signal(rotation.ExtendGrace, rotation.DecisionMessage{For: rotation.Duration(time.Hour)})
	})
	r.after(2*time.Hour, func() {
		r.refuses("before the present question was asked", rotation.FinishGrace, old)
		r.takes(rotation.FinishGrace, r.signedBy("bob"))
	})
	r.after(3*time.Hour, func() {
		if p := r.status().Phase; p != rotation.Grace {
			t.Errorf("one of two ended it: %s", p)
		}
		r.takes(rotation.FinishGrace, r.signedBy("carol"))
	})
	r.after(3*time.Hour+time.Minute, func() {
		// What was signed for the grace period is no approval of the revoke.
		if s := r.status(); s.Phase != rotation.AwaitingApproval || len(s.Signing.Signed) != 0 {
			t.Fatalf("%s, %+v", s.Phase, s.Signing)
		}
		r.takes(rotation.Approve, r.signedBy("alice"))
		r.takes(rotation.Approve, r.signedBy("carol"))
	})
	res := r.run()
	r.replaced(res)
	if took := res.EndedAt.Sub(begin); took > 4*time.Hour {
		t.Errorf("it took %s", took)
	}
}

func TestAnEmergencyIsNotHeldUpByFourEyesAndTheResultSaysSo(t *testing.T) {
	t.Parallel()
	const left = "Revoked without four eyes: "
	check := func(t *testing.T, r *fixture, res rotation.Result) {
		t.Helper()
		r.replaced(res)
		if !slices.ContainsFunc(res.FollowUps, func(l string) bool {
			return strings.HasPrefix(l, left) && strings.Contains(l, r.oldID) && strings.Contains(l, "Emergency by mallory at ") && strings.Contains(l, "(leaked)")
		}) {
			t.Errorf("the result does not name it: %v", res.FollowUps)
		}
	}
	leaked := rotation.DecisionMessage{By: "mallory", Why: "leaked"}
	t.Run("started as one", func(t *testing.T) {
		r := newFixture(t, fourEyes(t, bothStores()))
		r.in.Reason, r.in.By, r.in.Why = rotation.Emergency, "mallory", "leaked"
		check(t, r, r.run())
	})
	t.Run("raised while one of two has signed", func(t *testing.T) {
		r := newFixture(t, fourEyes(t, bothStores()))
		r.after(asking, func() {
			r.takes(rotation.Approve, r.signedBy("alice"))
			leaked.Leaked = []string{r.oldID}
			r.signal(rotation.RaiseEmergency, leaked)
		})
		check(t, r, r.run())
	})
	t.Run("that another rotation serves, continued as new", func(t *testing.T) {
		r := newFixture(t, fourEyes(t, bothStores()))
		r.after(asking, func() {
			r.takes(rotation.Approve, r.signedBy("alice"))
			r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{By: "mallory", Why: "leaked"}) // everything
		})
		r.goOn()
		if r.in.Carry == nil || r.in.Carry.Round != 1 {
			t.Fatalf("carried over: %+v", r.in.Carry)
		}
		check(t, r, r.run())
	})
	t.Run("two had signed already", func(t *testing.T) {
		s := fourEyes(t, bothStores())
		s.opts.Policy = []string{"four_eyes: true", "soak: 1h"}
		r := newFixture(t, s)
		r.after(asking, func() {
			r.takes(rotation.Approve, r.signedBy("alice"))
			r.takes(rotation.Approve, r.signedBy("bob"))
		})
		r.after(asking+time.Minute, func() {
			r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{By: "mallory", Why: "leaked", Leaked: []string{r.oldID}})
		})
		res := r.run()
		r.replaced(res)
		if slices.ContainsFunc(res.FollowUps, func(l string) bool { return strings.HasPrefix(l, left) }) {
			t.Errorf("two had signed: %v", res.FollowUps)
		}
	})
}

func TestWhatTheInputSaysOfFourEyesIsNotBelieved(t *testing.T) {
	t.Parallel()
	r := newFixture(t, fourEyes(t, bothStores()))
	r.in.Key.Policy.FourEyes, r.in.Key.Policy.Approve = false, false
	r.after(asking, func() {
		if s := r.status(); s.Phase != rotation.AwaitingApproval || s.Signing == nil {
			t.Fatalf("%s, %+v", s.Phase, s.Signing)
		}
		r.refuses("needs the signatures", rotation.Approve, rotation.DecisionMessage{By: "mallory", Why: "w"})
		r.signal(rotation.Reject, rotation.DecisionMessage{By: "alice", Why: "safe directions need no signature"})
	})
	r.after(12*day, func() {
		r.takes(rotation.Approve, r.signedBy("alice"))
		r.takes(rotation.Approve, r.signedBy("bob"))
	})
	r.unchanged(r.run())
}

func TestFourEyesAskedForAfterTheRotationBeganHoldTheRevoke(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores().policy(quick))
	r.after(day, func() {
		// The worker was restarted with another file.
		for _, name := range []string{"alice", "bob"} {
			r.acts.Operators = append(r.acts.Operators, rotation.Operator{Name: name, Key: signed.Line(sshKey(t, name).PublicKey())})
		}
		k := r.key
		k.Policy.FourEyes = true
		r.acts.Keys = func() []rotation.Key { return []rotation.Key{k} }
	})
	r.after(asking, func() {
		s := r.status()
		if s.Phase != rotation.AwaitingApproval || s.Signing == nil || !r.live(r.oldID) {
			t.Fatalf("%s\n%s", s.Phase, s.Details)
		}
		r.takes(rotation.Approve, r.signedBy("alice"))
		r.takes(rotation.Approve, r.signedBy("bob"))
	})
	r.replaced(r.run())
}

func TestALongHistoryIsContinuedWithoutLosingASignature(t *testing.T) {
	t.Parallel()
	r := newFixture(t, fourEyes(t, bothStores()))
	var first rotation.DecisionMessage
	r.after(asking, func() {
		first = r.signedBy("alice")
		r.takes(rotation.Approve, first)
	})
	r.after(asking+time.Hour, func() {
		r.env.SetContinueAsNewSuggested(true)
		r.signal(rotation.AddNote, rotation.DecisionMessage{By: "alice", Why: "bob is at lunch"})
	})
	r.goOn()
	r.after(time.Hour, func() {
		s := r.status()
		if s.Phase != rotation.AwaitingApproval || !slices.Equal(s.Signing.Names(), []string{"alice"}) {
			t.Fatalf("%s, %+v", s.Phase, s.Signing)
		}
		r.takes(rotation.Approve, first) // sent again: it is the same, and counts once
		r.takes(rotation.Approve, r.signedBy("bob"))
	})
	r.replaced(r.run())
}

func TestWhoMaySignCannotBeReadSoNothingPasses(t *testing.T) {
	t.Parallel()
	r := newFixture(t, fourEyes(t, bothStores()))
	var allow func(rotation.Key) error
	r.after(asking, func() {
		allow = r.acts.Allow
		r.acts.Allow = func(rotation.Key) error { return errors.New("the file is being written") }
		r.takes(rotation.Approve, r.signedBy("alice"))
		r.takes(rotation.Approve, r.signedBy("bob"))
	})
	r.after(asking+day, func() {
		if s := r.status(); s.Phase != rotation.AwaitingApproval || !strings.Contains(s.Details, "Who may sign could not be read") {
			t.Errorf("%s\n%s", s.Phase, s.Details)
		}
		r.acts.Allow = allow
	})
	r.replaced(r.run())
}

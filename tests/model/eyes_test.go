package model

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/lockstep"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/rotation/signed"
	"github.com/rekeyhq/rekey/workflows"
)

// eyes is how far two operators are with what they sign. The workflow counts the signatures in an activity of its own, and
// does nothing else before.
type eyes struct {
	// open: something can be signed: the end of grace, or an approval. number counts what could be.
	open, finish bool
	number       int
	signed       []string
	// recount: the signatures are to be counted, unsigned: a revoke was refused for want of them. counting: they are counted
	// now. looked: the key was looked at.
	recount, unsigned, counting, looked bool
	// poll is when they are counted again, after polls tries.
	poll  time.Time
	polls int
}

func (e *eyes) drop() { e.open, e.signed, e.recount = false, nil, false }

func (e *eyes) ask(s State, finish bool) {
	e.drop()
	if s.signs() {
		e.open, e.finish, e.recount = true, finish, true
		e.number++
	}
}

// begin follows a decision.
func (e *eyes) begin(from, to State) {
	if from.Step == to.Step {
		if from.Step == approval && from.Fact == Over && to.Fact == Nothing {
			e.recount = to.signs() && e.open
		}
		return
	}
	e.poll, e.polls = time.Time{}, 0
	if from.Fact == Unsigned && to.Step == guard {
		e.unsigned = true
	}
	switch phase := to.Step.name().Phase(); {
	case phase == from.Step.name().Phase():
		if from.Step == recheck && e.looked {
			e.recount = len(e.signed) > 0
		}
	case phase == rotation.Grace:
		e.ask(to, true)
	case phase == rotation.AwaitingApproval:
		e.ask(to, false)
	default:
		e.drop()
	}
}

// waits reports whether the signatures come first. turn: the step begins.
func (e *eyes) waits(s State, turn bool, now time.Time) bool {
	switch {
	case s.Step != grace && s.Step != guard && s.Step != approval:
		return false
	case e.counting:
		return true
	case s.Follow || s.Request:
		return false
	case e.poll.After(now):
		return true
	case s.Step == guard && s.Fact != Nothing:
		return false
	}
	return turn && s.signs() && (e.recount || e.unsigned)
}

// operators sign for the walk.
var operators = []string{"alice", "bob", "carol"}

func signers() (all []rotation.Operator) {
	for _, name := range operators {
		all = append(all, rotation.Operator{Name: name, Key: signed.Line(sshKey(name).PublicKey())})
	}
	return all
}

var sshKeys = func() map[string]ssh.Signer {
	all := map[string]ssh.Signer{}
	for _, name := range operators {
		s, err := ssh.NewSignerFromSigner(ed25519.NewKeyFromSeed([]byte((name + strings.Repeat(".", 32))[:32])))
		if err != nil {
			panic(err)
		}
		all[name] = s
	}
	return all
}()

func sshKey(name string) ssh.Signer { return sshKeys[name] }

// sign makes a message that an operator has signed, about what can be signed now.
func (w *walk) sign(kind rotation.DecisionKind, body rotation.DecisionMessage) (rotation.DecisionMessage, error) {
	answer, err := w.run.Query(workflows.StatusQuery)
	if err != nil {
		return body, err
	}
	var status rotation.Status
	if err := answer.Get(&status); err != nil {
		return body, err
	}
	if status.Signing == nil || status.Signing.Kind != kind {
		return body, fmt.Errorf("the workflow has nothing to sign for %s: %+v", kind, status.Signing)
	}
	body.SignedAt = w.now()
	body.Signature, err = signed.Sign(sshKey(body.By), signed.Text(status.Signing.Question, body))
	return body, err
}

// counted ends the activity that counts the signatures.
func (w *walk) counted(a lockstep.Activity) bool {
	if w.chance(10) {
		w.run.FailActivity(a.ID, fail(pick(w, fault.Unavailable, fault.Rejected), activities.Failure{}))
		return false
	}
	w.run.CompleteActivity(a.ID, signers())
	return true
}

// afterCount does what two operators have signed.
func (w *walk) afterCount(s State, ok bool) State {
	e := &w.time.eyes
	e.counting = false
	if s.Follow || s.Request && s.Commitment.name().CanRollBack() {
		return s
	}
	switch {
	case !ok && s.Step == approval && s.Fact == Answered:
		// The question was withdrawn meanwhile: nothing is left to count.
	case !ok && s.Step != grace:
		e.recount = true
		e.poll = w.now().Add(min(15*time.Second<<min(e.polls, 10), 6*time.Hour))
		e.polls++
	case ok:
		e.unsigned = false
		if e.open && len(e.signed) >= rotation.Eyes {
			finish := e.finish
			e.drop()
			if finish {
				w.time.graceUntil, s.GraceOver = w.now(), true
			} else {
				s = w.m.signedYes(s)
			}
		}
	}
	return s
}

// hearSigned takes a signature, which takes effect when it is counted.
func (w *walk) hearSigned(s State, m *message) (State, bool) {
	e := &w.time.eyes
	kind := rotation.Approve
	if e.finish {
		kind = rotation.FinishGrace
	}
	fits := m.kind == rotation.Approve && s.Step == approval || m.kind == rotation.FinishGrace && s.Step.watches()
	if !fits || m.by == "" || !e.open || m.kind != kind || m.number != e.number || slices.Contains(e.signed, m.by) {
		return s, false
	}
	e.signed, e.recount, e.poll = append(slices.Clone(e.signed), m.by), true, time.Time{}
	return s, true
}

package workflows

import (
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
)

// A message's way: it comes in here, messages.go reads it, and decisions.go checks and applies it.

// descriptions say in the Temporal UI what a message does and what to send.
var descriptions = map[rotation.DecisionKind]string{
	rotation.Approve:        `In awaiting-approval: answers yes to the question in the details. Input: {"by": "you@example.com", "why": "…"}; with "question": "…", its id, no other question is answered by mistake`,
	rotation.Reject:         `In awaiting-approval: answers no, and returns to the old key. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.KeySupplied:    `In awaiting-key: says that the new key is in the first store, as a version that no application reads; rekey checks it. Never put a key here! Input: {"by": "you@example.com", "version": "7"}; without a version the newest is taken.`,
	rotation.KeyRevoked:     `In awaiting-revocation: says that the key to revoke is revoked at the provider; rekey checks it. Input: {"by": "you@example.com"}`,
	rotation.ExtendGrace:    `In the grace period, and where a question is about it: keeps both keys longer. Input: {"by": "you@example.com", "why": "…", "for": "12h"}`,
	rotation.FinishGrace:    `In the grace period: ends it now. Whoever still uses the old key fails soon. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.RollBack:       `At any time until a key is gone for good: returns to the old key. Request Cancellation does the same. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.RaiseEmergency: `At any time: says that values have leaked, all that were made before now. No grace period, no guard, no way back. Input: {"by": "you@example.com", "why": "…"}; to name what leaked, by fingerprint or version: {"by": "you@example.com", "why": "…", "leaked": ["0123456789ab"]}`,
	rotation.ExtendDeadline: `While a person is waited for: moves the deadline, and with it reminders and escalation. Input: {"by": "you@example.com", "why": "…", "for": "2d"}`,
	rotation.AddNote:        `At any time: leaves a note for whoever comes next; it decides nothing. Input: {"by": "you@example.com", "why": "what you know"}`,
}

// listen registers every handler before the first wait. Updates and signals reach the same apply; a cancel is a request
// to roll back.
func (r *runner) listen() {
	var sent []workflow.ReceiveChannel
	for _, kind := range rotation.DecisionKinds() {
		// Registration fails only for a handler of the wrong shape.
		_ = workflow.SetUpdateHandlerWithOptions(r.ctx, string(kind),
			func(_ workflow.Context, raw converter.RawValue) (rotation.Status, error) {
				err := r.receiveUpdate(kind, raw.Payload())
				return r.status(), err
			},
			workflow.UpdateHandlerOptions{
				Description: descriptions[kind],
				// As it was sent: fields that a message does not have count, too.
				Validator: func(_ workflow.Context, raw converter.RawValue) error { return r.validateUpdate(kind, raw.Payload()) },
			})
		sent = append(sent, r.signals(kind))
	}
	workflow.Go(r.ctx, func(ctx workflow.Context) {
		// Not a blocked Receive: it would hold a signal where takeMessages cannot see it. One for all kinds: each costs every task.
		waiting := func(c workflow.ReceiveChannel) bool { return c.Len() > 0 }
		for workflow.Await(ctx, func() bool { return slices.ContainsFunc(sent, waiting) || len(unknownSignals(ctx)) > 0 }) == nil {
			r.takeMessages()
		}
	})
	_ = workflow.SetQueryHandlerWithOptions(r.ctx, StatusQuery, func() (rotation.Status, error) { return r.status(), nil },
		workflow.QueryHandlerOptions{Description: "Where the rotation stands, what it waits for, and which decisions it would take."})
	workflow.Go(r.root, func(ctx workflow.Context) {
		ctx.Done().Receive(ctx, nil)
		r.receiveCancel()
	})
}

func (r *runner) signals(kind rotation.DecisionKind) workflow.ReceiveChannel {
	return workflow.GetSignalChannelWithOptions(r.ctx, string(kind), workflow.SignalChannelOptions{Description: descriptions[kind]})
}

// takeMessages takes the signals, and the cancel, that have come but were not handled yet. An activity that ends, or a timer that
// fires, together with a signal wakes the rotation first; the signal may have been sent before.
func (r *runner) takeMessages() {
	r.receiveCancel()
	for _, kind := range rotation.DecisionKinds() {
		for {
			var raw converter.RawValue
			if !r.signals(kind).ReceiveAsync(&raw) {
				break
			}
			r.receive(kind, raw.Payload())
		}
	}
	r.takeUnknownSignals()
}

// validateUpdate is the validator of an Update: what it refuses never enters the history.
func (r *runner) validateUpdate(kind rotation.DecisionKind, payload *commonpb.Payload) error {
	m, err := readUpdate(kind, payload)
	if err == nil {
		_, err = r.check(kind, m)
	}
	return err
}

// receiveUpdate takes an Update that its validator has let through. In a replay no validator runs, so it is read once more;
// it is not checked again, because what it fits can have changed within the task that has recorded it.
func (r *runner) receiveUpdate(kind rotation.DecisionKind, payload *commonpb.Payload) error {
	m, err := readUpdate(kind, payload)
	if err == nil {
		r.accept(kind, m)
	}
	return err
}

func readUpdate(kind rotation.DecisionKind, payload *commonpb.Payload) (rotation.DecisionMessage, error) {
	m, bad := read(kind, payload)
	switch {
	case bad == nil:
		return m, nil
	case bad.holdsKey:
		return m, &rotation.RejectedDecision{Message: "this message contains what looks like a key. It was refused and is in no history, but it was sent over the network: treat that key as leaked, revoke it, and supply another with `rekey supply KEY`"}
	}
	return m, &rotation.RejectedDecision{Message: string(kind) + " " + bad.problem}
}

// receive takes a signal: it is read, checked and applied. Nobody waits for its answer, so what is wrong with it goes into
// the details.
func (r *runner) receive(kind rotation.DecisionKind, payload *commonpb.Payload) {
	defer r.refreshDetails()
	m, bad := read(kind, payload)
	switch {
	case bad == nil:
	case bad.holdsKey:
		r.noteLeak(string(kind), bad.keys)
		return
	default:
		r.Progress.Note = fmt.Sprintf("A signal %q %s", kind, bad.problem)
		return
	}
	if m.By == "" {
		m.By = "somebody (signal)"
	}
	if m.Why == "" && m.Signature == "" && kind != rotation.AddNote {
		m.Why = "no reason given"
	}
	d, err := r.check(kind, m)
	switch {
	case err == nil:
		r.apply(d)
	case r.isSettled(kind, m):
		// The same once more, too late: the first one did what it says.
	case !slices.Contains(r.decisionContext().Accepts(), kind) && r.bufferable(kind):
		r.keepEarly(kind, m)
	default:
		r.Progress.Note = fmt.Sprintf("A signal %q was not accepted: %s.", kind, err)
	}
}

// receiveCancel takes a cancel as a request to roll back, once.
func (r *runner) receiveCancel() {
	if r.root.Err() == nil || r.cancelled {
		return
	}
	r.cancelled = true
	if !r.At.Commitment.CanRollBack() {
		r.Progress.Note = "Somebody cancelled the workflow; there is no way back any more, so it goes on to its end."
		r.refreshDetails()
		return
	}
	r.accept(rotation.RollBack, rotation.DecisionMessage{By: "cancel request", Why: "The workflow was cancelled."})
}

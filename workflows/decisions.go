package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
)

// descriptions tell in the Temporal UI what a message does and what to send.
var descriptions = map[rotation.Kind]string{
	rotation.Approve:        `In awaiting-approval: says yes to the question that the details ask. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.Reject:         `In awaiting-approval: says no, and returns to the old key. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.KeySupplied:    `In awaiting-key: says that the new key stands in the first store, as a version that no application reads; rekey checks it. Never put a key here! Input: {"by": "you@example.com", "version": "7"}; without a version the newest is taken.`,
	rotation.KeyRevoked:     `In awaiting-revocation: says that the key to revoke is revoked at the provider; rekey checks it. Input: {"by": "you@example.com"}`,
	rotation.ExtendGrace:    `In the grace period, and where a question is about it: keeps both keys longer. Input: {"by": "you@example.com", "why": "…", "for": "12h"}`,
	rotation.FinishGrace:    `In the grace period: ends it now. Whoever still uses the old key fails soon. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.RollBack:       `At any time until a key is gone for good: returns to the old key. Request Cancellation does the same. Input: {"by": "you@example.com", "why": "…"}`,
	rotation.RaiseEmergency: `At any time: says that values have leaked, all that were made before now. No grace period, no guard, no way back. Input: {"by": "you@example.com", "why": "…"}; to name what leaked, by fingerprint or version: {"by": "you@example.com", "why": "…", "leaked": ["0123456789ab"]}`,
	rotation.ExtendWait:     `While a person is waited for: moves the deadline, and with it reminders and escalation. Input: {"by": "you@example.com", "why": "…", "for": "2d"}`,
	rotation.HandOver:       `At any time: leaves a note for whoever comes next; it decides nothing. Input: {"by": "you@example.com", "why": "what you know"}`,
}

// listen registers every handler before the first wait. Updates and signals reach the same take; a cancel is a
// wish to roll back.
func (r *rotator) listen() {
	for _, kind := range rotation.Kinds() {
		// Registration fails only for a handler of the wrong shape.
		_ = workflow.SetUpdateHandlerWithOptions(r.ctx, string(kind),
			func(_ workflow.Context, raw converter.RawValue) (rotation.Status, error) {
				m, err := readUpdate(kind, raw)
				if err == nil {
					r.take(kind, m)
				}
				return r.status(), err
			},
			workflow.UpdateHandlerOptions{
				Description: descriptions[kind],
				// As it was sent: fields that a message does not have count, too.
				Validator: func(_ workflow.Context, raw converter.RawValue) error { return r.listenTo(kind, raw) },
			})
		signals := r.signals(kind)
		workflow.Go(r.ctx, func(ctx workflow.Context) {
			// Not a blocked Receive: it would hold a signal where drain cannot see it.
			for workflow.Await(ctx, func() bool { return signals.Len() > 0 }) == nil {
				r.drain()
			}
		})
	}
	_ = workflow.SetQueryHandlerWithOptions(r.ctx, StatusQuery, func() (rotation.Status, error) { return r.status(), nil },
		workflow.QueryHandlerOptions{Description: "Where the rotation stands, what it waits for, and which decisions it would take."})
	workflow.Go(r.root, func(ctx workflow.Context) {
		ctx.Done().Receive(ctx, nil)
		r.hearCancel()
	})
}

// hearCancel takes a cancel as a wish to roll back, once.
func (r *rotator) hearCancel() {
	if r.root.Err() == nil || r.cancelled {
		return
	}
	r.cancelled = true
	if r.Irreversible || r.Reverse {
		r.Note = "Somebody cancelled the workflow; there is no way back any more, so it goes on to its end."
		r.show()
		return
	}
	r.take(rotation.RollBack, rotation.Message{By: "cancel request", Why: "The workflow was cancelled."})
}

func (r *rotator) signals(kind rotation.Kind) workflow.ReceiveChannel {
	return workflow.GetSignalChannelWithOptions(r.ctx, string(kind), workflow.SignalChannelOptions{Description: descriptions[kind]})
}

// check refuses a decision before it enters the history.
func (r *rotator) check(kind rotation.Kind, m rotation.Message) error {
	if r.repeated(kind, m) {
		return nil
	}
	if err := r.situation().Check(kind, m); err != nil {
		return err
	}
	_, err := r.signer(kind, m)
	return err
}

func (r *rotator) repeated(kind rotation.Kind, m rotation.Message) bool {
	taken := r.Decisions
	if r.signs(kind) && r.Asked != nil {
		taken = r.Signed // what was signed for another question is no answer to this one
	}
	return m.ID != "" && slices.ContainsFunc(taken, func(d rotation.Decision) bool { return d.ID == m.ID && d.Kind == kind })
}

// take carries out a decision that check has let through.
func (r *rotator) take(kind rotation.Kind, m rotation.Message) {
	if r.repeated(kind, m) {
		return
	}
	signer, err := r.signer(kind, m)
	if err != nil {
		return // check has refused it
	}
	d := rotation.Decision{Kind: kind, Message: m, At: r.now(), Signer: signer}
	situation := r.situation()
	r.Decisions = append(r.Decisions, d)
	r.Note = ""
	if signer != nil {
		r.Signed, r.Recount = append(r.Signed, d), true
		r.show()
		return
	}
	switch kind {
	case rotation.Approve:
		r.grant()
	case rotation.Reject, rotation.RollBack:
		d.Why = fmt.Sprintf("%s (%s)", d.Why, d.By)
		r.Wish = &d
	case rotation.KeySupplied, rotation.KeyRevoked:
		r.Claim = &d
	case rotation.ExtendGrace:
		r.GraceUntil = situation.Extended(m.For)
		if r.Step != rotation.Grace {
			r.After, r.Question = rotation.Grace, ""
		} else {
			r.poseFinish() // whoever signed for a shorter one has not agreed to this
		}
	case rotation.RaiseEmergency:
		r.raise(d)
	case rotation.ExtendWait:
		r.extendWait(situation.ExtendedWait(m.For))
	case rotation.HandOver:
		r.HandedOver = &d
	case rotation.FinishGrace:
		r.finishGrace()
	}
	r.show()
}

// grant lets the rotation go on after its question.
func (r *rotator) grant() {
	r.Approved = r.About
	r.Granted = append(r.Granted, r.Question)
	r.Question = ""
}

// finishGrace ends the grace period, but not before the last reader can see the new value.
func (r *rotator) finishGrace() {
	r.GraceUntil = r.now()
	if r.GraceUntil.Before(r.PublishedAt) {
		r.GraceUntil = r.PublishedAt
	}
}

// drain takes the signals, and the cancel, that have come but were not handled yet. A timer that fires together with
// a signal wakes the rotation first; the signal was sent before.
func (r *rotator) drain() {
	r.hearCancel()
	for _, kind := range rotation.Kinds() {
		for {
			var raw converter.RawValue
			if !r.signals(kind).ReceiveAsync(&raw) {
				break
			}
			r.hear(kind, raw.Payload())
		}
	}
}

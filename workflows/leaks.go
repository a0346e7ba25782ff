package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// maxLeakedFingerprints bounds what a rotation remembers of keys that were sent to it.
const maxLeakedFingerprints = 16

// noteLeak treats what was sent in a signal as leaked: the history keeps it, and everybody who reaches Temporal can read
// it. Nothing of it goes on but fingerprints. A key that this rotation is about to publish is not published; one that it
// has published is replaced at once; one that a person supplies later is refused.
func (r *runner) noteLeak(signal string, found []string) {
	r.Carry.LeakedIn = workflow.GetInfo(r.ctx).WorkflowExecution.RunID
	r.Carry.LeakedFingerprints = remembered(r.Carry.LeakedFingerprints, found)
	r.followUp(fmt.Sprintf("A signal %q of %s contained what looks like a key. Revoke that key, if it is live, and delete this history: %s", signal, details.Moment(r.now()), r.purge()))
	var stays *activities.Ref
	if r.backwards() || r.Keys.New != nil {
		stays = r.incoming()
	}
	switch {
	case stays == nil || !slices.Contains(found, stays.Fingerprint):
	case r.At.Commitment.Published():
		m := rotation.DecisionMessage{By: "rekey", Why: "The key " + stays.Name() + " was sent in a signal.", Leaked: []string{stays.Fingerprint}}
		if !slices.ContainsFunc(r.Inbox.Successors, func(d rotation.Decision) bool { return slices.Equal(d.Leaked, m.Leaked) }) {
			r.accept(rotation.RaiseEmergency, m)
		}
	default:
		r.requestRollback("The new key " + stays.Name() + " was sent in a signal, so it counts as leaked.")
	}
}

// remembered adds fingerprints to those that are known, up to a bound.
func remembered(known, found []string) []string {
	for _, f := range found {
		if !slices.Contains(known, f) && len(known) < maxLeakedFingerprints {
			known = append(known, f)
		}
	}
	return known
}

// purge is the command that deletes the history that has a key. A rotation may have several, one for each run.
func (r *runner) purge() string { return purge(ID(r.in.Key.Name), r.Carry.LeakedIn) }

func purge(id, run string) string {
	return "temporal workflow delete --workflow-id " + id + " --run-id " + run
}

// keysIn are the fingerprints of what looks like a key in what somebody sent, signatures left out.
func keysIn(data []byte) []string { return rotation.KeysIn(signature.ReplaceAll(data, nil)) }

// received is the input of a workflow as it was sent: a key may be in a field that the input does not have, or in place
// of the whole. It is searched when the workflow begins, before anything of it is used or shown.
type received struct{ data []byte }

// maxInput is how long an input is at most with which somebody begins a workflow; maxFleetInput is for one that names
// thousands of keys. Whatever is longer is not ours, and would take too long to search.
const (
	maxInput      = 256 << 10
	maxFleetInput = 1 << 20
)

// read reads an input into fields. What cannot be read and contains a key is not an error here: errors repeat what they are about.
func (s *received) read(data []byte, fields any) error {
	s.data = slices.Clone(data)
	err := json.Unmarshal(data, fields)
	switch {
	case err == nil || len(data) > maxFleetInput || len(keysIn(data)) > 0:
		return nil
	case len(err.Error()) > 300:
		return errors.New("the input is not what this workflow takes")
	}
	return err
}

// check refuses an input with a key in it. carried: the workflow gave it to itself, for its next run.
func (s *received) check(ctx workflow.Context, most int, carried bool) error {
	data, info := s.data, workflow.GetInfo(ctx)
	s.data = nil
	if carried && info.ContinuedExecutionRunID != "" {
		return nil // it was searched when its first run began
	}
	history := purge(info.WorkflowExecution.ID, info.WorkflowExecution.RunID)
	if rotation.LooksLikeKey(info.WorkflowExecution.ID) {
		history = "temporal workflow delete"
	}
	if len(data) > most {
		return rejected("the input has %d bytes, and has at most %d. Nothing was done. If it contains a key, treat that key as leaked, and delete this history: %s", len(data), most, history)
	}
	if found := keysIn(data); len(found) > 0 {
		return rejected("the input contains what looks like a key: fingerprint %s. Nothing was done, but it is in this history, where whoever reaches Temporal can read it, so it counts as leaked."+
			" 1. Revoke it, if it is live; one that rekey keeps: rekey emergency KEY --leaked %s. 2. Delete this history: %s. 3. Start again without it",
			strings.Join(found[:min(len(found), maxLeakedFingerprints)], ", "), found[0], history)
	}
	return nil
}

// UnmarshalJSON keeps what was sent until it is searched for keys.
func (in *Input) UnmarshalJSON(data []byte) error {
	type fields Input
	return in.received.read(data, (*fields)(in))
}

// UnmarshalJSON keeps what was sent until it is searched for keys.
func (in *DispatchInput) UnmarshalJSON(data []byte) error {
	type fields DispatchInput
	return in.received.read(data, (*fields)(in))
}

// UnmarshalJSON keeps what was sent until it is searched for keys.
func (in *EmergencyInput) UnmarshalJSON(data []byte) error {
	type fields EmergencyInput
	return in.received.read(data, (*fields)(in))
}

// UnmarshalJSON keeps what was sent until it is searched for keys.
func (in *TriggerInput) UnmarshalJSON(data []byte) error {
	type fields TriggerInput
	return in.received.read(data, (*fields)(in))
}

// UnmarshalJSON keeps what was sent until it is searched for keys.
func (in *NotifyInput) UnmarshalJSON(data []byte) error {
	type fields NotifyInput
	return in.received.read(data, (*fields)(in))
}

// reserved begins the names of signals that are Temporal's own; the SDK hides them.
const reserved = "__temporal_"

// unknownSignals are the names of signals that have come and that a workflow does not take, in an order that is always the
// same.
func unknownSignals(ctx workflow.Context) []string {
	names := slices.DeleteFunc(workflow.GetUnhandledSignalNames(ctx), func(name string) bool { return strings.HasPrefix(name, reserved) })
	slices.Sort(names)
	return names
}

// takeUnknownSignals takes what has come in signals that a workflow does not take. The history keeps it all the same.
func takeUnknownSignals(ctx workflow.Context, take func(name string, payload *commonpb.Payload)) {
	for _, name := range unknownSignals(ctx) {
		signals := workflow.GetSignalChannel(ctx, name)
		for {
			var raw converter.RawValue
			if !signals.ReceiveAsync(&raw) {
				break
			}
			take(name, raw.Payload())
		}
	}
}

// shownName is the name of a signal as it may be shown.
func shownName(name string) string {
	if len(name) > 64 || len(keysIn([]byte(name))) > 0 {
		return "…"
	}
	return name
}

// takeUnknownSignals looks for keys in signals with names that no message has.
func (r *runner) takeUnknownSignals() {
	takeUnknownSignals(r.ctx, func(name string, payload *commonpb.Payload) {
		defer r.refreshDetails()
		found := keysIn([]byte(name))
		if problem := tooLong(payload); problem != "" {
			r.Progress.Note = fmt.Sprintf("A signal %q was not read: %s.", shownName(name), problem)
		} else {
			found = append(found, keysIn(payload.GetData())...)
			r.Progress.Note = fmt.Sprintf("A signal %q was not accepted: no message has that name.", shownName(name))
		}
		if len(found) > 0 {
			r.noteLeak(shownName(name), found)
		}
	})
}

// ignoredSignals is what a workflow that takes no signals finds in those that come all the same.
type ignoredSignals struct {
	ctx   workflow.Context
	found []string
}

// ignoreSignals searches every signal that comes from now on for keys; changed is called when it finds one.
func ignoreSignals(ctx workflow.Context, changed func()) *ignoredSignals {
	o := &ignoredSignals{ctx: ctx}
	workflow.Go(ctx, func(ctx workflow.Context) {
		for workflow.Await(ctx, func() bool { return len(unknownSignals(ctx)) > 0 }) == nil {
			if o.take() {
				changed()
			}
		}
	})
	return o
}

// take searches what has come; it reports whether there was a key.
func (o *ignoredSignals) take() bool {
	before := len(o.found)
	takeUnknownSignals(o.ctx, func(name string, payload *commonpb.Payload) {
		o.found = remembered(o.found, keysIn([]byte(name)))
		if tooLong(payload) == "" {
			o.found = remembered(o.found, keysIn(payload.GetData()))
		}
	})
	return len(o.found) > before
}

// text says in plain words what to do about keys in the history; empty if there are none.
func (o *ignoredSignals) text() string {
	o.take()
	if len(o.found) == 0 {
		return ""
	}
	we := workflow.GetInfo(o.ctx).WorkflowExecution
	return fmt.Sprintf("A KEY IS IN THIS HISTORY, sent in a signal (fingerprint %s), so it counts as leaked. Revoke it, if it is live, and when this workflow has ended, delete its history: %s.",
		strings.Join(o.found, ", "), purge(we.ID, we.RunID))
}

// addTo puts it before another text.
func (o *ignoredSignals) addTo(text string) string {
	if leak := o.text(); leak != "" {
		return strings.TrimSpace(leak + " " + text)
	}
	return text
}

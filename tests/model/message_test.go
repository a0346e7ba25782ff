package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// message is what somebody sends to the workflow and to the model.
type message struct {
	Message
	kind rotation.DecisionKind
	body any
	// cancel: it is a request to cancel the workflow. nothing: the model knows nothing of it. again: it is the same as the one
	// before.
	cancel, nothing, again bool
	// by is the operator who has signed it, number what was signed.
	by     string
	number int
}

func (m *message) String() string {
	text := m.Input.String()
	switch {
	case m.cancel:
		text = "cancel"
	case m.nothing:
		text = fmt.Sprintf("%s %v", m.kind, m.body)
	}
	if m.Update {
		text += " (update)"
	}
	if m.again {
		text += " (again)"
	}
	return text
}

var kinds = map[Input]rotation.DecisionKind{
	SayApprove: rotation.Approve, SayReject: rotation.Reject, SaySupplied: rotation.KeySupplied, SayRevoked: rotation.KeyRevoked, SayExtend: rotation.ExtendGrace,
	SayFinish: rotation.FinishGrace, SayRollBack: rotation.RollBack, EmergencyOld: rotation.RaiseEmergency, EmergencyNew: rotation.RaiseEmergency,
	EmergencyAll: rotation.RaiseEmergency, EmergencyFirst: rotation.RaiseEmergency, EmergencyOther: rotation.RaiseEmergency,
}

// messages are what arrives in the next workflow task, in the order in which the workflow takes them.
func (w *walk) messages(s State) []*message {
	var all []*message
	for n := w.rng.IntN(4) - 1; n > 0; n-- {
		m := w.message(s)
		if m.cancel && w.cancelled {
			continue
		}
		w.cancelled = w.cancelled || m.cancel
		all = append(all, m)
		if w.chance(10) && !m.cancel && !m.nothing {
			second := *m
			second.again = true
			all = append(all, &second)
		}
	}
	w.order(all)
	// What the model has no names for is not sent.
	at := *w
	return slices.DeleteFunc(all, func(m *message) bool {
		if !m.nothing && w.m.beyond(s, m.Input) {
			w.cancelled = w.cancelled && !m.cancel
			return true
		}
		s, _ = at.hear(s, m)
		return false
	})
}

func (w *walk) message(s State) *message {
	in := pick(w, SayApprove, SayReject, SaySupplied, SayRevoked, SayExtend, SayFinish, SayRollBack, SayRollBack, SayRollBack,
		EmergencyOld, EmergencyOld, EmergencyNew, EmergencyAll, EmergencyFirst, EmergencyOther)
	if in >= SayRollBack && w.chance(80) { // or no story would come far
		in = pick(w, SayApprove, SayExtend, SayFinish)
	}
	switch {
	case s.Step == approval && w.chance(60):
		in = SayApprove
	case s.Step == awaitKey && w.chance(60):
		in = SaySupplied
	case (s.Step == disable || s.Step == soak) && w.chance(60):
		in = SayRollBack
	case (s.Step == awaitRevocation || s.Step == awaitContainment) && w.chance(60):
		in = SayRevoked
	}
	w.sent++
	m := &message{Message: Message{Input: in, Update: w.chance(40)}, kind: kinds[in]}
	body := rotation.DecisionMessage{ID: fmt.Sprintf("id-%d", w.sent), By: "somebody", Why: fmt.Sprintf("reason %d", w.sent)}
	switch in {
	case SaySupplied:
		body.Version = fmt.Sprint(w.sent)
	case SayExtend:
		body.For = rotation.Duration(30 * time.Minute)
	case EmergencyOld:
		body.Leaked = []string{pick(w, fingerprint(Old), id(Old))}
		body.Leaked = []string{fingerprint(Old)}
	case EmergencyFirst:
		body.Leaked, body.RevokeFirst = []string{fingerprint(Old)}, true
	case EmergencyNew:
		body.Leaked = []string{fingerprint(s.own())}
	case EmergencyOther:
		body.Leaked = []string{"0123456789ab"}
	case SayRollBack:
		m.cancel = w.chance(20)
		m.Update = m.Update && !m.cancel
	}
	m.body = body
	if e := w.time.eyes; s.signs() && e.open && (in == SayApprove && !e.finish && s.Step == approval || in == SayFinish && e.finish && s.Step.watches()) && w.chance(80) {
		m.by, m.number = pick(w, operators...), e.number
		body.By = m.by
		if m.body, w.err = w.sign(m.kind, body); w.err != nil {
			return m
		}
	}
	if w.chance(5) {
		m = &message{Message: Message{Input: in, Update: w.chance(40)}, kind: pick(w, rotation.DecisionKinds()...), body: pick[any](w, 17.5, []string{"a"}, map[string]any{"nobody": "knows"}, true), nothing: true}
	}
	return m
}

func (w *walk) send(m *message) {
	w.sent++
	switch {
	case m.cancel:
		w.run.Cancel()
	case m.Update:
		w.run.Update(string(m.kind), fmt.Sprintf("update-%d", w.sent), m.body)
	default:
		w.run.Signal(string(m.kind), m.body)
	}
}

// hear is the model's, and follows the clock.
func (w *walk) hear(s State, m *message) (State, bool) {
	if m.nothing || m.again {
		return s, false
	}
	c := &w.time
	if m.Input == SayExtend && s.Began && (!c.graceUntil.Before(c.cap()) || !w.now().Before(c.cap())) {
		return s, false
	}
	if s.signs() && (m.Input == SayApprove || m.Input == SayFinish) {
		return w.hearSigned(s, m)
	}
	next, ok := w.m.hear(s, m.Message)
	if !ok {
		return s, false
	}
	c.eyes.poll = time.Time{} // whatever changes the plan ends a poll
	switch m.Input {
	case SayExtend:
		c.extend(30*time.Minute, w.now())
		next.GraceOver = !w.now().Before(c.graceUntil) // no further than the policy allows
		if s.Step != approval {
			c.eyes.ask(next, true)
		} else {
			c.eyes.drop() // the question is moot, also for whoever signs it
		}
	case SayFinish:
		c.graceUntil = w.now()
	case EmergencyOld, EmergencyFirst:
		w.told |= set(Old)
	case EmergencyNew:
		w.told |= set(s.own())
	}
	if m.Input >= EmergencyOld && !next.Follow && next.Began && c.graceUntil.After(w.now()) && !c.graceUntil.IsZero() {
		c.graceUntil = w.now()
	}
	return next, true
}

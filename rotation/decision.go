package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// DecisionKind is what a person can decide. Each is the name of an Update and of a Signal.
type DecisionKind string

// The decisions.
const (
	// Approve lets the waiting step go on.
	Approve DecisionKind = "approve"
	// Reject rolls back instead of going on.
	Reject DecisionKind = "reject"
	// KeySupplied says that the new key is in the first store, as a version that no application reads.
	KeySupplied DecisionKind = "key-supplied"
	// KeyRevoked says that the old key was revoked at the provider.
	KeyRevoked DecisionKind = "key-revoked"
	// ExtendGrace keeps both keys longer.
	ExtendGrace DecisionKind = "extend-grace"
	// FinishGrace ends the grace period now.
	FinishGrace DecisionKind = "finish-grace"
	// RollBack returns to the old key.
	RollBack DecisionKind = "roll-back"
	// RaiseEmergency says that values have leaked: the rotation goes on without grace and guard, and another follows
	// if this one's own new key is among them.
	RaiseEmergency DecisionKind = "emergency"
	// ExtendDeadline moves the deadline of the present wait for a person, and with it reminders and escalation.
	ExtendDeadline DecisionKind = "extend-deadline"
	// AddNote leaves a note for whoever comes next. It decides nothing.
	AddNote DecisionKind = "add-note"
)

// MaxNote is how many bytes a note for whoever comes next may have: it is shown wherever the rotation is.
const MaxNote = 500

// MaxWhy is how many bytes of a reason are kept, MaxField how many any other text of a message may have, and MaxLeaked how
// many values an emergency may name.
const MaxWhy, MaxField, MaxLeaked = 2000, 1500, 200

// WaitCap is how many times the policy's patience a wait can last, however often it is extended.
const WaitCap = 4

// DecisionKinds returns all decisions.
func DecisionKinds() []DecisionKind {
	return []DecisionKind{Approve, Reject, KeySupplied, KeyRevoked, ExtendGrace, FinishGrace, RollBack, RaiseEmergency, ExtendDeadline, AddNote}
}

// DecisionMessage is the payload of a decision, as an Update or as a Signal. It never holds a key: KeySupplied names a
// version of the store.
type DecisionMessage struct {
	// ID makes a repeated message harmless; empty is allowed.
	ID string `json:"id,omitempty"`
	// By is who decides. It is a claim: a workflow cannot see who sent a message.
	By string `json:"by"`
	// Why is kept with the rotation's result.
	Why string `json:"why,omitempty"`
	// Version is for KeySupplied: the number of the version in the first store; empty means the newest one that
	// is not current.
	Version string `json:"version,omitempty"`
	// Fingerprint is for KeySupplied: what the version holds, by whoever put it there. A worker whose store holds another
	// value says so, and does not use it. Empty is allowed.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Question is for Approve and Reject: the id of the question that is answered, as details and status show it. An answer
	// to a question that is no longer open is refused. Empty means the one that is.
	Question string `json:"question,omitempty"`
	// For is for ExtendGrace and ExtendWait: how much longer; for RaiseEmergency: how long the leaked key may still work beside the new
	// one, 0 for not at all.
	For Duration `json:"for,omitempty"`
	// Leaked is for RaiseEmergency: fingerprints or version numbers of the values that leaked. Empty means every value
	// made before the request.
	Leaked []string `json:"leaked,omitempty"`
	// RevokeFirst is for RaiseEmergency: the leaked key is taken away before there is a new one, and applications fail
	// until there is.
	RevokeFirst bool `json:"revokeFirst,omitempty"`
	// Signature is an SSHSIG over the question and this message, and SignedAt when it was made; needed under four eyes.
	Signature string    `json:"signature,omitempty"`
	SignedAt  time.Time `json:"signedAt,omitzero"`
}

// Decision is a message that was taken.
type Decision struct {
	Kind DecisionKind `json:"kind"`
	DecisionMessage
	At time.Time `json:"at"`
	// Signer is who signed it, if it had to be signed; anything else that names a person is a claim.
	Signer *Signer `json:"signer,omitempty"`
}

// DecisionContext is what decides whether a decision fits.
type DecisionContext struct {
	// State is where the rotation is.
	State
	Now time.Time
	// Question is the id of the open question, if there is one.
	Question string
	// Extendable: grace can begin again; a question that has nothing to do with it cannot be answered with more of it.
	Extendable bool
	// GraceUntil and GraceCap are the end of the grace period and the latest end that extensions can reach.
	GraceUntil, GraceCap time.Time
	// Deadline is when the present wait for a person ends, zero if there is none; WaitCap the latest end that extensions
	// can reach.
	Deadline, WaitCap time.Time
}

// Accepts returns the decisions that fit the situation now.
func (s DecisionContext) Accepts() []DecisionKind {
	var fits []DecisionKind
	for _, k := range DecisionKinds() {
		if s.fits(k) == "" {
			fits = append(fits, k)
		}
	}
	return fits
}

// fits returns the reason why a kind of decision does not fit; empty if it does.
func (s DecisionContext) fits(k DecisionKind) string {
	only := func(steps ...Phase) string {
		if slices.Contains(steps, s.Step.Phase()) && !s.Step.Closed() {
			return ""
		}
		return fmt.Sprintf("%s is for the phase %s; this rotation is in %s", k, steps[0], s.describe())
	}
	switch k {
	case Reject:
		if why := only(AwaitingApproval); why != "" {
			return why
		}
		if !s.Commitment.CanRollBack() {
			return "there is no way back any more; approve when the way forward is clear"
		}
		return ""
	case Approve:
		return only(AwaitingApproval)
	case KeySupplied:
		return only(AwaitingKey)
	case KeyRevoked:
		return only(AwaitingRevocation)
	case FinishGrace:
		return only(Grace)
	case ExtendGrace:
		if s.Step == StepApproval && !s.Extendable {
			return "this question is not about the grace period"
		}
		return only(Grace, Guard, AwaitingApproval)
	case RaiseEmergency:
		return "" // always: if this rotation cannot serve it, another follows
	case ExtendDeadline:
		if s.Deadline.IsZero() {
			return fmt.Sprintf("%s waits for nobody, so it has no deadline to extend", s.describe())
		}
		return ""
	case AddNote:
		if s.Step.Closed() {
			return "this rotation has ended"
		}
		return ""
	case RollBack:
		switch {
		case s.Step.Closed():
			return "this rotation has ended"
		case s.Commitment.Backwards():
			return "this rotation is rolling back already"
		case !s.Commitment.CanRollBack():
			return "there is nothing to go back to: the old key is being revoked, is gone, or has leaked. The rotation goes on to its end"
		}
		return ""
	default:
		return fmt.Sprintf("there is no decision %q", k)
	}
}

func (s DecisionContext) describe() string {
	if p := s.Phase(); p != s.Step.Phase() {
		return fmt.Sprintf("%s (%s)", p, s.Step.Phase())
	}
	return string(s.Phase())
}

// RejectedDecision is a decision that was not taken. Its text says what to send instead.
type RejectedDecision struct{ Message string }

func (r *RejectedDecision) Error() string { return r.Message }

// Check reports whether a decision fits now and is complete; a *Refusal says why not.
func (s DecisionContext) Check(k DecisionKind, m DecisionMessage) error {
	if field := m.keyLike(); field != "" {
		return &RejectedDecision{fmt.Sprintf("the field %q looks like a key. A message is kept for ever: treat that key as leaked, revoke it, and supply another with `rekey supply KEY`", field)}
	}
	if why := s.fits(k); why != "" {
		return &RejectedDecision{why}
	}
	if field := m.unseen(); field != "" {
		return &RejectedDecision{fmt.Sprintf("the field %q holds characters that nobody sees, or that turn text around. Send it without them", field)}
	}
	if m.Question != "" && (k == Approve || k == Reject) && m.Question != s.Question {
		return &RejectedDecision{fmt.Sprintf("the question %s is not open any more; asked now is %s. Look at it, then answer that", m.Question, s.Question)}
	}
	if m.By == "" {
		return &RejectedDecision{`say who decides: {"by": "you@example.com", "why": "…"}`}
	}
	if slices.Contains([]DecisionKind{Reject, RollBack, ExtendGrace, FinishGrace, RaiseEmergency, ExtendDeadline, AddNote}, k) && m.Why == "" {
		return &RejectedDecision{fmt.Sprintf("%s needs a reason: {\"by\": %q, \"why\": \"…\"}", k, m.By)}
	}
	if (k == ExtendGrace || k == ExtendDeadline) && m.For <= 0 {
		return &RejectedDecision{`say how much longer: {"by": "…", "why": "…", "for": "12h"}`}
	}
	switch k {
	case ExtendGrace:
		if !s.GraceCap.IsZero() && !latest(s.GraceUntil, s.Now).Before(s.GraceCap) {
			return &RejectedDecision{"the grace period cannot be extended past " + s.GraceCap.Format(time.RFC3339) + " (max_grace of the policy)"}
		}
	case ExtendDeadline:
		if !s.WaitCap.IsZero() && !latest(s.Deadline, s.Now).Before(s.WaitCap) {
			return &RejectedDecision{fmt.Sprintf("the wait cannot be extended past %s (%d times the patience of the policy)", s.WaitCap.Format(time.RFC3339), WaitCap)}
		}
	case AddNote:
		if len(m.Why) > MaxNote {
			return &RejectedDecision{fmt.Sprintf("a note has at most %d bytes; this one has %d", MaxNote, len(m.Why))}
		}
	}
	return nil
}

// TooLong says what is too long to be kept, in the state, the memo and the result, which Temporal bounds.
func (m DecisionMessage) TooLong() string {
	for _, f := range m.fields() {
		if f.name != "why" && f.name != "leaked" && len(f.text) > MaxField {
			return fmt.Sprintf("the field %q has %d bytes, at most %d are taken", f.name, len(f.text), MaxField)
		}
	}
	switch {
	case m.Signature != "" && len(m.Why) > MaxWhy:
		return fmt.Sprintf("a reason that is signed has at most %d bytes; this one has %d", MaxWhy, len(m.Why))
	case len(m.Signature) > 3*MaxField:
		return "that is too long for a signature"
	case len(m.Leaked) > MaxLeaked || len(strings.Join(m.Leaked, "")) > 50*MaxLeaked:
		return fmt.Sprintf("an emergency names at most %d values; to mean all that were made before, name none", MaxLeaked)
	}
	return ""
}

// Bounded is the message with no more of its reason than is kept. A signature counts for the whole of it.
func (m DecisionMessage) Bounded() DecisionMessage {
	if m.Signature == "" && len(m.Why) > MaxWhy {
		m.Why = strings.ToValidUTF8(m.Why[:MaxWhy-len("…")], "") + "…"
	}
	return m
}

// Extended is the end of the grace period after an extension by d, within the cap.
func (s DecisionContext) Extended(d Duration) time.Time {
	return s.extended(s.GraceUntil, s.GraceCap, d)
}

// ExtendedDeadline is the deadline of the present wait after an extension by d, within the cap.
func (s DecisionContext) ExtendedDeadline(d Duration) time.Time {
	return s.extended(s.Deadline, s.WaitCap, d)
}

func (s DecisionContext) extended(from, limit time.Time, d Duration) time.Time {
	until := latest(from, s.Now).Add(time.Duration(d))
	if !limit.IsZero() && until.After(limit) {
		return limit
	}
	return until
}

// keyLike names the first field that looks like a key.
func (m DecisionMessage) keyLike() string {
	for _, f := range m.fields() {
		if LooksLikeKey(f.text) {
			return f.name
		}
	}
	return ""
}

func (m DecisionMessage) fields() []struct{ name, text string } {
	return []struct{ name, text string }{{"id", m.ID}, {"by", m.By}, {"why", m.Why}, {"version", m.Version}, {"fingerprint", m.Fingerprint}, {"question", m.Question}, {"leaked", strings.Join(m.Leaked, " ")}}
}

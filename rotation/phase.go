package rotation

import (
	"slices"
	"time"
)

// Phase is where a rotation stands. The diagram in docs/architecture.md shows which follows which.
type Phase string

// The phases. A rotation that goes in reverse after promote shows RollingBack whatever step it is at.
const (
	Prepare            Phase = "prepare"
	Create             Phase = "create"
	AwaitingKey        Phase = "awaiting-key"
	Store              Phase = "store"
	Verify             Phase = "verify"
	Promote            Phase = "promote"
	Grace              Phase = "grace"
	Guard              Phase = "guard"
	AwaitingApproval   Phase = "awaiting-approval"
	Revoke             Phase = "revoke"
	AwaitingRevocation Phase = "awaiting-revocation"
	Confirm            Phase = "confirm"
	Retire             Phase = "retire"
	Completed          Phase = "completed"
	RollingBack        Phase = "rolling-back"
	RolledBack         Phase = "rolled-back"
)

// Phases returns all phases in the order of the diagram.
func Phases() []Phase {
	return []Phase{
		Prepare, Create, AwaitingKey, Store, Verify, Promote, Grace, Guard, AwaitingApproval, Revoke,
		AwaitingRevocation, Confirm, Retire, Completed, RollingBack, RolledBack,
	}
}

// Closed reports whether a rotation in this phase has ended.
func (p Phase) Closed() bool { return p == Completed || p == RolledBack }

// Waiting reports whether a rotation in this phase can only go on when a person acts.
func (p Phase) Waiting() bool {
	return slices.Contains([]Phase{AwaitingKey, AwaitingApproval, AwaitingRevocation}, p)
}

// Explain says in a sentence what happens in a phase.
func (p Phase) Explain() string {
	return map[Phase]string{
		Prepare:            "Look before anything changes: is the key due, does every store answer, is there room for a new key.",
		Create:             "Make a new key at the provider and stage it where no application reads it.",
		AwaitingKey:        "Wait for a person to make the new key.",
		Store:              "Bring the new value to every other store, still unread.",
		Verify:             "Read the new value back from every store and prove it at the provider.",
		Promote:            "Make it current in every store, one compare-and-set each, and look through the applications' eyes.",
		Grace:              "Old and new key both work, so that every application can pick up the new one.",
		Guard:              "Ask whether the old key is still in use.",
		AwaitingApproval:   "Wait for a person to decide.",
		Revoke:             "Read every store again, then take the old key away: disabled first, deleted later.",
		AwaitingRevocation: "Wait for a person to revoke the old key.",
		Confirm:            "Prove that the old key is refused.",
		Retire:             "Destroy the old versions in the stores and sweep what abandoned attempts left.",
		Completed:          "Done: applications read the new key, and the old one is refused.",
		RollingBack:        "Return to the old key; what was new is taken away again.",
		RolledBack:         "Done: applications read the old key, and nothing new is left.",
	}[p]
}

// TrailEntry says when a rotation entered a phase.
type TrailEntry struct {
	Phase Phase     `json:"phase"`
	At    time.Time `json:"at"`
}

// Reason says why a rotation was started.
type Reason string

// The reasons.
const (
	Scheduled Reason = "scheduled"
	Manual    Reason = "manual"
	Emergency Reason = "emergency"
)

// Valid reports whether r is a reason.
func (r Reason) Valid() bool { return slices.Contains([]Reason{Scheduled, Manual, Emergency}, r) }

// Status is the state of a rotation, as its workflow answers a query.
type Status struct {
	Key      string `json:"key"`
	Rotation string `json:"rotation"`
	Provider string `json:"provider"`
	Account  string `json:"account"`
	Tier     Tier   `json:"tier,omitempty"`
	Reason   Reason `json:"reason"`
	Phase    Phase  `json:"phase"`
	// Details is the text that the Temporal UI shows: what happens now, and what a person is asked to do.
	Details string `json:"details"`
	// Deadline is when the present wait ends by itself; zero if nothing waits.
	Deadline time.Time `json:"deadline,omitzero"`
	// GraceUntil is when both keys stop being kept; zero before grace.
	GraceUntil time.Time `json:"graceUntil,omitzero"`
	// Overdue: the deadline has passed and a person is still needed.
	Overdue bool `json:"overdue,omitempty"`
	// Trail is when the rotation entered each phase so far, oldest first.
	Trail []TrailEntry `json:"trail"`
	// Deliveries says which channels were notified of the wait for a person, and which could not be.
	Deliveries []Delivery `json:"deliveries,omitempty"`
	// Accepts are the decisions that would be taken now.
	Accepts []DecisionKind `json:"accepts,omitempty"`
	// Question is the id of what a person is asked now; empty if nothing.
	Question string `json:"question,omitempty"`
	// Signing is what operators have to sign now, under four eyes; nil if nothing.
	Signing *Signing `json:"signing,omitempty"`
	// New is the fingerprint of the new value.
	New string `json:"new,omitempty"`
	// Old are the fingerprints of the values to revoke.
	Old []string `json:"old,omitempty"`
}

// Result is how a rotation ended. It is the workflow's result, and is in its memo.
type Result struct {
	Key      string `json:"key"`
	Rotation string `json:"rotation"`
	Reason   Reason `json:"reason"`
	// Phase is Completed or RolledBack.
	Phase Phase `json:"phase"`
	// Outcome says in a sentence what happened and why.
	Outcome string `json:"outcome"`
	// NotDue: nothing had to be done, and nothing was changed.
	NotDue bool `json:"notDue,omitempty"`
	// New is the fingerprint of the value that applications read now; empty if nothing changed.
	New string `json:"new,omitempty"`
	// Revoked names every key that was revoked: its id at the provider, or its fingerprint.
	Revoked []string `json:"revoked,omitempty"`
	// Unknown: an emergency named values that nobody knows; Left says which.
	Unknown bool `json:"unknown,omitempty"`
	// FollowUps lists what a person has to see to, each a sentence that names ids.
	FollowUps []string `json:"followUps,omitempty"`
	// Decisions are the decisions that people took. By is what the sender claimed.
	Decisions []Decision `json:"decisions,omitempty"`
	StartedAt time.Time  `json:"startedAt"`
	EndedAt   time.Time  `json:"endedAt"`
	// Trail is when the rotation entered each phase, oldest first; of a very long one only the latest.
	Trail []TrailEntry `json:"trail"`
	// PublishedAt is when applications could read the new value in every store.
	PublishedAt time.Time `json:"publishedAt,omitzero"`
	// RevokedAt is when the last old key was seen refused.
	RevokedAt time.Time `json:"revokedAt,omitzero"`
}

// LatestRotation is how the latest rotation of a key stands, as Temporal keeps it: no worker is asked.
type LatestRotation struct {
	// Known: there was a rotation that Temporal remembers.
	Known   bool  `json:"known"`
	Running bool  `json:"running,omitempty"`
	Phase   Phase `json:"phase,omitempty"`
	// Reason may have become emergency since the start.
	Reason Reason `json:"reason,omitempty"`
	// Result is set when it has ended by itself. Neither running nor with a result, it was ended from outside.
	Result *Result `json:"result,omitempty"`
}

// Served reports whether the rotation has ended and took the emergency with that id.
func (s LatestRotation) Served(id string) bool {
	return s.Result != nil && slices.ContainsFunc(s.Result.Decisions, func(d Decision) bool { return d.Kind == RaiseEmergency && d.ID == id })
}

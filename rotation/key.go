// Package rotation is the pure domain of rekey: what a key is, when it is due, which phase follows which, and
// what a person may decide. Nothing in it talks to anybody or reads a clock.
package rotation

import (
	"slices"
	"time"

	"github.com/prometheus/common/model"
)

// Duration is a length of time that reads and prints as people write it: 90d, 48h, 1w, 1m30s.
type Duration = model.Duration

// ParseDuration reads a Duration such as "30d" or "36h".
func ParseDuration(text string) (Duration, error) { return model.ParseDuration(text) }

// Key is the spec of a named credential that rekey keeps fresh. It is the input of a rotation: references
// only, no secrets and no endpoints (those belong to the worker's own configuration).
type Key struct {
	// Name is 1 to MaxKeyName characters a-z, 0-9 and inner hyphens.
	Name string `json:"name"`
	// Provider names a provider of the worker's configuration.
	Provider string `json:"provider"`
	// Account is what the provider keeps keys of: a service account's email, an OpenAI project.
	Account string `json:"account"`
	// Stores are the places that applications read. The first holds the claim.
	Stores []Location `json:"stores"`
	Tier   Tier       `json:"tier,omitempty"`
	Policy Policy     `json:"policy"`
	// ConflictsWith names keys that must not be rotated while this one is. An emergency does not ask.
	ConflictsWith []string `json:"conflictsWith,omitempty"`
}

// Location is a path in a store of the worker's configuration.
type Location struct {
	Store string `json:"store"`
	Path  string `json:"path"`
}

func (l Location) String() string { return l.Store + ":" + l.Path }

// Tier names a preset of the policy.
type Tier string

// The tiers, from the most to the least exposed.
const (
	Production1 Tier = "production-1"
	Production  Tier = "production"
	Staging     Tier = "staging"
	Development Tier = "development"
)

// Tiers returns all tiers, from the most to the least exposed.
func Tiers() []Tier { return []Tier{Production1, Production, Staging, Development} }

// Valid reports whether t is a tier.
func (t Tier) Valid() bool { return slices.Contains(Tiers(), t) }

// UnknownUse says what to do when nobody can report whether the old key is still in use.
type UnknownUse string

const (
	// UnknownTimer trusts the grace period.
	UnknownTimer UnknownUse = "timer"
	// UnknownApprove asks a person.
	UnknownApprove UnknownUse = "approve"
	// UnknownNever keeps the old key until a person decides, and has no deadline.
	UnknownNever UnknownUse = "never"
)

// Valid reports whether u is one of the three.
func (u UnknownUse) Valid() bool {
	return slices.Contains([]UnknownUse{UnknownTimer, UnknownApprove, UnknownNever}, u)
}

// Policy says when a key is rotated and how careful rekey is about it.
type Policy struct {
	// Period is the age at which a key is due.
	Period Duration `json:"period"`
	// Grace is how long old and new key both work, counted from the moment at which applications can read the
	// new one in every store.
	Grace Duration `json:"grace"`
	// MaxGrace caps extensions, by people and by the guard, counted from the same moment.
	MaxGrace Duration `json:"maxGrace"`
	// Quiet is how long the old key must have been unused before it is revoked.
	Quiet Duration `json:"quiet"`
	// UnknownUse says what to do when use of the old key cannot be known.
	UnknownUse UnknownUse `json:"unknownUse"`
	// Approve: a person approves every revoke.
	Approve bool `json:"approve,omitempty"`
	// FourEyes: every approval takes the signatures of two operators. What a rotation's input says of it is not believed:
	// the worker's own rekey.yaml decides.
	FourEyes bool `json:"fourEyes,omitempty"`
	// Soak is how long the old key stays disabled before it is deleted, where the provider can disable.
	Soak Duration `json:"soak"`
	// Patience is how long a person has to act before the deadline of a wait.
	Patience Duration `json:"patience"`
	// Recheck is the first interval at which the new key is proven again during grace; later ones grow to 6 h.
	Recheck Duration `json:"recheck"`
	// StepTimeout is the longest one try of one step may take. It is longer than the deadline of a request.
	StepTimeout Duration `json:"stepTimeout"`
	// Window is when the key's schedule may rotate it.
	Window Window `json:"window,omitzero"`
	// Notify are the channels that are notified when a person is needed, Escalate those that are notified when that did not
	// help.
	Notify   []Channel `json:"notify,omitempty"`
	Escalate []Channel `json:"escalate,omitempty"`
	// EscalateAfter and Remind: see EscalatesAfter and RemindAfter.
	EscalateAfter Duration `json:"escalateAfter,omitempty"`
	Remind        Duration `json:"remind,omitempty"`
}

const day = 24 * time.Hour

// Preset is the policy of a tier; an unknown tier gets the preset of production.
func Preset(t Tier) Policy {
	p := Policy{
		Quiet: Duration(time.Hour), UnknownUse: UnknownTimer, Soak: Duration(time.Hour), Patience: Duration(7 * day),
		Recheck: Duration(15 * time.Minute), StepTimeout: Duration(2 * time.Minute),
	}
	switch t {
	case Production1:
		p.Period, p.Grace = Duration(30*day), Duration(24*time.Hour)
	case Staging:
		p.Period, p.Grace = Duration(90*day), Duration(7*day)
	case Development:
		p.Period, p.Grace = Duration(180*day), Duration(14*day)
	default:
		p.Period, p.Grace = Duration(90*day), Duration(48*time.Hour)
	}
	p.MaxGrace = p.Grace + Duration(7*day)
	return p
}

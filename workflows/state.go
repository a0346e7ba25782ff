package workflows

import (
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// State is all that a rotation knows. It crosses from one run to the next, and names keys by id and fingerprint. Its parts
// differ in how long they live, and are dropped whole: by hand nothing is reset, so nothing can be forgotten.
type State struct {
	// At is where the rotation is in the diagram.
	At rotation.State `json:"at"`
	// Carry outlives the rotation: one that follows it in the same workflow gets it.
	Carry CarryOver `json:"carry"`
	// These live as long as the rotation.
	Progress  Progress       `json:"progress"`
	Keys      Keys           `json:"keys"`
	Emergency EmergencyState `json:"emergency"`
	Inbox     Inbox          `json:"inbox"`
	Approvals Approvals      `json:"approvals"`
	// Direction is dropped when the rotation turns round.
	Direction Direction `json:"direction"`
	// Wait is dropped with the phase, Poll and Blocked with the step.
	Wait    Wait    `json:"wait"`
	Poll    Poll    `json:"poll"`
	Blocked Blocked `json:"blocked"`
}

// CarryOver is what a rotation hands to the one that follows it in the same workflow.
type CarryOver struct {
	// Round counts the rotations before this one in the same workflow, Predecessors are their ids.
	Round        int      `json:"round,omitempty"`
	Predecessors []string `json:"predecessors,omitempty"`
	// Emergencies are those that are not served yet.
	Emergencies []rotation.Decision `json:"emergencies,omitempty"`
	// Decisions are those that people took, FollowUps what is left for a person to do.
	Decisions []rotation.Decision `json:"decisions,omitempty"`
	FollowUps []string            `json:"followUps,omitempty"`
	// Links are addresses of consoles that activities gave: the only ones in texts that stay links.
	Links []string `json:"links,omitempty"`
	// Unknown: an emergency named values that nobody knows; FollowUps says which.
	Unknown bool `json:"unknown,omitempty"`
	// Signers are the operators as they were known: a roll-back can come before the next rotation has looked.
	Signers []rotation.Operator `json:"signers,omitempty"`
	// Revoked names the keys that were revoked.
	Revoked []string `json:"revoked,omitempty"`
	// LeakedFingerprints are of what was sent in a message and looks like a key, LeakedIn is the run whose history has it.
	LeakedFingerprints []string `json:"leakedFingerprints,omitempty"`
	LeakedIn           string   `json:"leakedIn,omitempty"`
	// Note is what somebody left for whoever comes next.
	Note *rotation.Decision `json:"note,omitempty"`
	// Channels say what each channel was notified of.
	Channels []channelState `json:"channels,omitempty"`
}

// Progress is how far a rotation has come.
type Progress struct {
	StartedAt time.Time             `json:"startedAt"`
	Trail     []rotation.TrailEntry `json:"trail,omitempty"`
	// Listed is the phase that the list of rotations shows.
	Listed rotation.Phase `json:"listed,omitempty"`
	// Outcome says why the rotation ends as it does, Note explains its latest turn.
	Outcome string `json:"outcome,omitempty"`
	Note    string `json:"note,omitempty"`
	NotDue  bool   `json:"notDue,omitempty"`
	// PublishedAt is when applications could read the new value in every store, RevokedAt when the last old key was seen
	// refused.
	PublishedAt time.Time `json:"publishedAt,omitzero"`
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	// Notifications counts what was sent to channels, Questions what operators were asked to sign.
	Notifications int `json:"notifications,omitempty"`
	Questions     int `json:"questions,omitempty"`
}

// Direction is what a rotation knows on its way in one direction: forwards, or back to the old key.
type Direction struct {
	// PublishedAt is when applications can read the incoming value in every store, GraceUntil when the grace period ends.
	PublishedAt time.Time `json:"publishedAt,omitzero"`
	GraceUntil  time.Time `json:"graceUntil,omitzero"`
	// Recheck is the interval of the health checks in grace, NextCheck when the next one is, Refusals how often in a row
	// the key was refused, UncheckedSince since when it could not be checked.
	Recheck        time.Duration `json:"recheck,omitempty"`
	NextCheck      time.Time     `json:"nextCheck,omitzero"`
	Refusals       int           `json:"refusals,omitempty"`
	UncheckedSince time.Time     `json:"uncheckedSince,omitzero"`
	// Trouble says what is wrong with the key that applications read.
	Trouble string `json:"trouble,omitempty"`
	// MayBeRevoked is until when a person may have revoked the key that is gone back to; zero if nobody was asked to.
	MayBeRevoked time.Time `json:"mayBeRevoked,omitzero"`
	// SoakUntil is when the disabled keys are deleted.
	SoakUntil time.Time `json:"soakUntil,omitzero"`
	// Deleted names the outgoing keys that are deleted, Before is the commitment before the first delete. DeleteOpen: a
	// delete was not answered, so a key may be gone, or may yet go.
	Deleted    []string            `json:"deleted,omitempty"`
	Before     rotation.Commitment `json:"before,omitempty"`
	DeleteOpen bool                `json:"deleteOpen,omitempty"`
	// Enabled counts how often the old key was enabled on the way back.
	Enabled int `json:"enabled,omitempty"`
	// Approved is what the last approval was about, SignedApproval what operators signed.
	Approved       questionKind       `json:"approved,omitempty"`
	SignedApproval *rotation.Approval `json:"signedApproval,omitempty"`
	// Early are signals that came before their phase.
	Early []rotation.Decision `json:"early,omitempty"`
}

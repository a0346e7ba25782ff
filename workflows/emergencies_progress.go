package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// KeyState is how far a key of an emergency is.
type KeyState string

// The states of a row.
const (
	// Queued: its turn has not come.
	Queued KeyState = "queued"
	// UnderWay: its rotation has the emergency.
	UnderWay KeyState = "under-way"
	// Waiting: its rotation waits for a person.
	Waiting KeyState = "waiting"
	// Done: everything that leaked is refused.
	Done KeyState = "done"
	// Failed: it is not, and nothing goes on by itself.
	Failed KeyState = "failed"
	// NotRaised: the emergency was cancelled before its turn.
	NotRaised KeyState = "not-raised"
)

// KeyProgress is one key of an emergency.
type KeyProgress struct {
	Key   string   `json:"key"`
	State KeyState `json:"state"`
	// Phase is where its rotation rests; phases that are over in a blink are not seen here.
	Phase rotation.Phase `json:"phase,omitempty"`
	// RaisedAt is when the emergency was first durable with a rotation of the key.
	RaisedAt time.Time `json:"raisedAt,omitzero"`
	// PublishedAt is when applications could read the new key in every store, RevokedAt when the old one was seen
	// refused.
	PublishedAt time.Time `json:"publishedAt,omitzero"`
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	// ChangedAt is when a rotation that is under way was last seen to make progress.
	ChangedAt time.Time `json:"changedAt,omitzero"`
	// Unreadable: what the rotation has recorded cannot be read, as Why says. It is looked at again.
	Unreadable bool `json:"unreadable,omitempty"`
	// Raises is how often the emergency was raised for the key, Tries how often in vain.
	Raises int `json:"raises,omitempty"`
	Tries  int `json:"tries,omitempty"`
	// Why says what is in the way, or how the rotation ended.
	Why string `json:"why,omitempty"`
	// FollowUps is how many things the rotation left for a person; its own result names them.
	FollowUps int `json:"followUps,omitempty"`
}

// ToNewKey is how long it took until applications could read the new key in every store; false if that is not known. A
// rotation that had published before the emergency took no time.
func (r KeyProgress) ToNewKey() (time.Duration, bool) { return r.took(r.PublishedAt) }

// ToRefused is how long it took until the old key was refused; false if that is not known.
func (r KeyProgress) ToRefused() (time.Duration, bool) { return r.took(r.RevokedAt) }

func (r KeyProgress) took(at time.Time) (time.Duration, bool) {
	if at.IsZero() || r.RaisedAt.IsZero() {
		return 0, false
	}
	return max(0, at.Sub(r.RaisedAt)), true
}

// open reports whether there is something to wait for.
func (r *KeyProgress) open() bool {
	return r.State == Queued || r.State == UnderWay || r.State == Waiting
}

// busyUntil is how long a blocked rotation keeps others from beginning; the zero time if it does not.
func (r *KeyProgress) busyUntil() (until time.Time) {
	if r.State != UnderWay || r.Phase == rotation.Grace || r.Unreadable {
		return until
	}
	return r.ChangedAt.Add(slotPatience)
}

// applyRaised takes what came of raising the emergency.
func (r *KeyProgress) applyRaised(out activities.Raised) {
	if out.Problem != "" {
		r.Why = out.Problem
		if r.Tries++; out.Hopeless || r.Tries >= maxTries {
			r.State = Failed
		}
		return
	}
	r.State, r.Phase, r.Why, r.Tries, r.ChangedAt = UnderWay, "", "", 0, out.At.Truncate(time.Millisecond)
	if r.Raises++; r.RaisedAt.IsZero() {
		r.RaisedAt = r.ChangedAt
	}
}

// applyStatus takes the status of the rotation.
func (r *KeyProgress) applyStatus(s activities.RotationStatus, now time.Time) {
	before := *r
	if r.Unreadable = s.Unreadable != ""; !r.Unreadable && before.Unreadable {
		r.Why = ""
	}
	switch {
	case r.Unreadable:
		// Nobody knows whether it has served the emergency. It is not raised again: what makes one record unreadable may
		// make all of them so.
		r.State, r.Phase, r.Why = UnderWay, "", s.Unreadable
	case s.Running:
		r.Phase, r.State = s.Phase, UnderWay
		if s.Phase.Waiting() {
			r.State = Waiting
		}
	case s.Served:
		r.Phase, r.Why, r.FollowUps = s.Phase, s.Outcome, s.FollowUps
		r.PublishedAt, r.RevokedAt = s.PublishedAt.Truncate(time.Millisecond), s.RevokedAt.Truncate(time.Millisecond)
		r.State = Failed
		switch {
		case s.Unknown:
			r.Why = "a value that was named is unknown: rekey status " + r.Key + " says which"
		case s.Phase == rotation.Completed:
			r.State = Done
		}
	case r.Raises <= maxRaises:
		// It was terminated, or ended just before it could hear of the emergency.
		r.State, r.Phase = Queued, ""
	default:
		r.State = Failed
		r.Why = fmt.Sprintf("Its rotation was ended from outside %d times. Find out who terminates it, then: rekey emergency %s", r.Raises, r.Key)
	}
	if r.State == before.State && r.Phase == before.Phase && r.Unreadable == before.Unreadable {
		return
	}
	if r.ChangedAt = now.Truncate(time.Millisecond); !r.open() {
		r.ChangedAt = time.Time{} // thousands of rows travel in one message
	}
}

// EmergencyProgress is how far an emergency is: the answer to its query, and its result.
type EmergencyProgress struct {
	ID        string    `json:"id"`
	By        string    `json:"by,omitempty"`
	Why       string    `json:"why,omitempty"`
	StartedAt time.Time `json:"startedAt"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	// Cancelled: somebody cancelled it; rotations that had begun go on.
	Cancelled bool `json:"cancelled,omitempty"`
	// Outcome says in a sentence how it ended.
	Outcome string `json:"outcome,omitempty"`
	// Leak says what to do about a key that somebody sent in a signal.
	Leak string        `json:"leak,omitempty"`
	Keys []KeyProgress `json:"keys"`
}

// EmergencyResult is an EmergencyProgress without its rows. It is in the memo of an emergency that has ended.
type EmergencyResult struct {
	ID      string           `json:"id"`
	Outcome string           `json:"outcome"`
	Counts  map[KeyState]int `json:"counts"`
}

// Summary leaves the rows out.
func (e *EmergencyProgress) Summary() EmergencyResult {
	return EmergencyResult{ID: e.ID, Outcome: e.Outcome, Counts: e.Counts()}
}

// Counts is how many keys are in each state; states that none is in are left out.
func (e *EmergencyProgress) Counts() map[KeyState]int {
	counts := map[KeyState]int{}
	for _, r := range e.Keys {
		counts[r.State]++
	}
	return counts
}

// Complete reports whether every key is done.
func (e *EmergencyProgress) Complete() bool { return e.Counts()[Done] == len(e.Keys) }

// Sentence says in words how many keys are in which state.
func (e *EmergencyProgress) Sentence() string {
	counts := e.Counts()
	parts := []string{fmt.Sprintf("%d of %d done", counts[Done], len(e.Keys))}
	for _, c := range []struct {
		state KeyState
		words string
	}{{Failed, "failed"}, {UnderWay, "under way"}, {Waiting, "wait for a person"}, {Queued, "not raised yet"}, {NotRaised, "not raised"}} {
		if n := counts[c.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, c.words))
		}
	}
	text := strings.Join(parts, ", ") + "."
	if e.Cancelled {
		text += " Somebody cancelled the emergency; rotations that had begun go on."
	}
	return text
}

// refreshDetails puts counts, and who waits for a person, where the Temporal UI shows it.
func (e *emergencyRun) refreshDetails() {
	e.takeSignals()
	workflow.SetCurrentDetails(e.ctx, e.page().Render())
}

// takeSignals searches what has come in signals for keys.
func (e *emergencyRun) takeSignals() {
	if leak := e.ignored.text(); leak != "" {
		e.Leak = leak
	}
}

// page is the operator's page of the emergency, as it is now.
func (e *EmergencyProgress) page() details.Emergency {
	p := details.Emergency{ID: e.ID, By: e.By, Why: e.Why, Counts: e.Sentence(), Leak: e.Leak, Ended: !e.EndedAt.IsZero()}
	for _, r := range e.Keys {
		k := details.EmergencyKey{Key: r.Key, Workflow: ID(r.Key), Phase: r.Phase}
		if r.State == Failed || r.Unreadable {
			k.Why = r.Why
		}
		switch {
		case r.Unreadable:
			p.Unreadable = append(p.Unreadable, k)
		case r.State == Waiting:
			p.Waiting = append(p.Waiting, k)
		case r.State == Failed:
			p.Failed = append(p.Failed, k)
		case r.State == NotRaised:
			p.NotRaised = append(p.NotRaised, k)
		}
	}
	return p
}

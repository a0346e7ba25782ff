package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// leeway is how much later than its beat a schedule's question may come: a beat at the end of a window is not lost
// because the worker took a moment.
const leeway = 15 * time.Minute

// DueInput asks whether a key is due.
type DueInput struct {
	Key rotation.Key `json:"key"`
	// Install, if set, must be the worker's own.
	Install string `json:"install,omitempty"`
	// Beat is when the schedule meant to ask; zero if nobody knows.
	Beat time.Time `json:"beat,omitzero"`
	// AnyTime: look also while the key's window is closed.
	AnyTime bool `json:"anyTime,omitempty"`
}

// Dueness is what is known about a key before a rotation is started. It is advice: the rotation looks again.
type Dueness struct {
	Verdict rotation.Verdict `json:"verdict"`
	// Closed: the key's window is closed, and nobody looked any further.
	Closed bool `json:"closed,omitempty"`
	// Old are the keys that a rotation of this moment would revoke in the end.
	Old []Ref `json:"old,omitempty"`
	// Full says why a rotation could not mint; empty if there is room.
	Full string `json:"full,omitempty"`
	// SupplyByHand and RevokeByHand: the provider has no API for it.
	SupplyByHand bool `json:"supplyByHand,omitempty"`
	RevokeByHand bool `json:"revokeByHand,omitempty"`
}

// Due reports whether a key is due at this moment, and whether its window is open. It changes nothing. It fails as
// Prepare does, when a store or the provider does not answer.
func (e *Environment) Due(ctx context.Context, in DueInput) (Dueness, error) {
	j, err := e.job(Target{Key: in.Key})
	if err != nil {
		return Dueness{}, err
	}
	if in.Install != "" && in.Install != e.Install {
		return Dueness{}, fault.New(fault.Rejected, "other_install", "ask whether "+in.Key.Name+" is due").WithAdvice(
			"The schedule belongs to rekey installation %s, this worker to %s. Give each a Temporal namespace of its own.", in.Install, e.Install)
	}
	w, now := in.Key.Policy.Window, j.now()
	if _, err := w.Location(); err != nil {
		return Dueness{}, fault.New(fault.Rejected, "time_zone", "ask whether "+in.Key.Name+" is due").WithAdvice(
			"This worker does not know the time zone %q of the key's window.", w.Zone)
	}
	punctual := !in.Beat.IsZero() && w.Contains(in.Beat) && now.Sub(in.Beat) <= leeway
	if !in.AnyTime && !punctual && !w.Contains(now) {
		return Dueness{Closed: true, Verdict: rotation.Verdict{
			Work: rotation.Nothing, Rule: "window-closed",
			Message: fmt.Sprintf("The key's window (%s) is closed at %s; the next beat in it asks again.", w, now.Format(time.RFC3339)),
		}}, nil
	}
	l, err := j.look(ctx, rotation.Scheduled)
	if err != nil {
		return Dueness{}, err
	}
	out := Dueness{Verdict: rotation.Due(l.facts, in.Key.Policy), Old: l.old(""), SupplyByHand: !j.caps.Mint, RevokeByHand: !j.caps.Delete}
	if out.Verdict.Work == rotation.Finish {
		out.Old = l.duties
	}
	if err := j.checkCapacity(l); err != nil && !j.canMakeRoom(l, l.duties) {
		out.Full = err.Error()
	}
	return out, nil
}

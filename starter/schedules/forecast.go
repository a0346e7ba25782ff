package schedules

import (
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
)

// Forecast is what will become of a key, as far as anybody can tell now.
type Forecast struct {
	// DueAt is when the key is due; zero if that cannot be known. Why says it in a sentence.
	DueAt time.Time `json:"dueAt,omitzero"`
	Why   string    `json:"why,omitempty"`
	// RotatesAt is the first beat at which the key is due; zero if none will rotate it.
	RotatesAt time.Time `json:"rotatesAt,omitzero"`
	// Touches are the provider's account and the places in stores that a rotation changes.
	Touches []string `json:"touches"`
	// Revokes names the keys that it revokes, and RevokesAt when, if nobody keeps them longer.
	Revokes   []string  `json:"revokes,omitempty"`
	RevokesAt time.Time `json:"revokesAt,omitzero"`
	// UnderWay: a rotation of the key runs now.
	UnderWay bool `json:"underWay,omitempty"`
	// ByHand is what a person will have to do.
	ByHand []string `json:"byHand,omitempty"`
	// Notes are what is in the way, or out of the ordinary.
	Notes []string `json:"notes,omitempty"`
}

// Forecast says what will become of a key of the plan. d is nil if nobody looked at provider and stores. It asks nobody.
func (p Plan) Forecast(s KeyPlan, d *activities.Dueness, underWay bool) Forecast {
	k := s.desired.Key
	o := Forecast{Touches: []string{k.Provider + ":" + k.Account}, UnderWay: underWay}
	for _, l := range k.Stores {
		o.Touches = append(o.Touches, l.String())
	}
	if underWay {
		o.note("a rotation is running; see `rekey status " + k.Name + "`")
	}
	if d == nil {
		return o
	}
	o.DueAt, o.Why = d.Verdict.DueAt, d.Verdict.Message
	for _, r := range d.Old {
		o.Revokes = append(o.Revokes, r.Name())
	}
	if o.RotatesAt = p.rotatesAt(s, d.Verdict); !o.RotatesAt.IsZero() && len(o.Revokes) > 0 && !d.SupplyByHand && !d.RevokeByHand {
		o.RevokesAt = o.RotatesAt.Add(time.Duration(k.Policy.Grace))
	}
	if d.SupplyByHand {
		o.ByHand = append(o.ByHand, "make the new key at the provider")
	}
	if k.Policy.Approve || k.Policy.UnknownUse != rotation.UnknownTimer {
		o.ByHand = append(o.ByHand, "approve the end of the old key")
	}
	if d.RevokeByHand {
		o.ByHand = append(o.ByHand, "revoke the old key at the provider")
	}
	if d.Full != "" {
		o.note("a new key could not be made: " + d.Full)
	}
	if d.Verdict.Rule == "age-unknown" {
		o.note("no schedule will rotate it before its age is known")
	}
	return o
}

func (o *Forecast) note(text string) { o.Notes = append(o.Notes, text) }

// rotatesAt is the first beat that finds the key due.
func (p Plan) rotatesAt(s KeyPlan, v rotation.Verdict) time.Time {
	if s.Paused || len(s.Beats) == 0 {
		return time.Time{}
	}
	first := s.Beats[0]
	if v.Work != rotation.Nothing {
		return first
	}
	if v.DueAt.IsZero() {
		return time.Time{}
	}
	after := v.DueAt.Add(-time.Second)
	if after.Before(first) {
		after = first.Add(-time.Second)
	}
	k := s.desired.Key
	if next := k.Policy.Window.Beat(p.Install, k.Name).Next(after, 1); len(next) > 0 {
		return next[0]
	}
	return time.Time{}
}

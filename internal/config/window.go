package config

import (
	"slices"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// window lays the window and the blackout of a policy over w, each as a whole.
func (c *check) window(where yamlPath, f filePolicy, w *rotation.Window) {
	if f.Window != nil {
		*w = rotation.Window{Zone: f.Window.Zone, Blackout: w.Blackout}
		c.hours(where.field("window"), *f.Window, w)
	}
	if f.Blackout == nil {
		return
	}
	w.Blackout = nil
	for i, text := range f.Blackout {
		d, err := rotation.ParseDates(text)
		if err != nil {
			c.problem(where.field("blackout").index(i), "%v", err)
			continue
		}
		if d.Last.Sub(d.First) > longestBlackout {
			c.problem(where.field("blackout").index(i), "%q is longer than a year; pause the keys instead (paused: true)", text)
		}
		w.Blackout = append(w.Blackout, d)
	}
}

// longestBlackout bounds what a schedule has to carry: a calendar for each month.
const longestBlackout = 366 * 24 * time.Hour

func (c *check) hours(where yamlPath, f fileWindow, w *rotation.Window) {
	for i, d := range f.Days {
		c.choice(where.field("days").index(i), d, true, text(rotation.Days())...)
		if slices.Contains(w.Days, rotation.Day(d)) {
			c.problem(where.field("days").index(i), "%q is listed twice", d)
		}
		w.Days = append(w.Days, rotation.Day(d))
	}
	for _, o := range []struct {
		field, text string
		to          *rotation.Clock
	}{{"from", f.From, &w.From}, {"to", f.To, &w.To}} {
		clock, err := rotation.ParseClock(o.text)
		switch {
		case o.text == "" && f.From+f.To == "":
		case o.text == "":
			c.problem(where.field(o.field), "missing; a window has from and to, or neither for the whole day")
		case err != nil:
			c.problem(where.field(o.field), "%v", err)
		}
		*o.to = clock
	}
	if f.From != "" && f.From == f.To {
		c.problem(where.field("to"), "a window from %s to %s is never open; leave both out for the whole day", f.From, f.To)
	}
	if w.From == 24*60 {
		c.problem(where.field("from"), "a window cannot open at the end of a day; write 00:00")
	}
	if _, err := w.Location(); err != nil {
		c.problem(where.field("zone"), "%q is not a valid time zone; expected one like Europe/Berlin or UTC", f.Zone)
	}
}

// conflicts returns every key the names that it must not be rotated with. Who keeps apart from another, the other keeps
// conflicts from, too.
func (c *check) conflicts() {
	index := map[string]int{}
	var names []string
	for i, k := range c.out.Keys {
		index[k.Name] = i
		names = append(names, k.Name)
	}
	for i, f := range c.file.Keys {
		for n, other := range f.ConflictsWith {
			where := yamlPath("$.keys").index(i).field("conflicts_with").index(n)
			o, known := index[other]
			switch {
			case other == f.Name:
				c.problem(where, "a key cannot conflict with itself")
			case !known:
				c.problem(where, "there is no key %q; expected %s", other, oneOf(names))
			case slices.Index(f.ConflictsWith, other) < n:
				c.problem(where, "%q is listed twice", other)
			default:
				a, b := &c.out.Keys[i], &c.out.Keys[o]
				a.ConflictsWith, b.ConflictsWith = append(a.ConflictsWith, b.Name), append(b.ConflictsWith, a.Name)
			}
		}
	}
	for i := range c.out.Keys {
		k := &c.out.Keys[i]
		slices.Sort(k.ConflictsWith)
		k.ConflictsWith = slices.Compact(k.ConflictsWith)
	}
}

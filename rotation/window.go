package rotation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Window is when the schedule of a key may rotate it, by the clocks of one time zone. The zero Window is always open.
// People and emergencies do not ask for it.
type Window struct {
	// Days on which the window opens; none means every day. One that passes midnight belongs to the day on which it
	// opens.
	Days []Day `json:"days,omitempty"`
	// From and To are when it opens and closes. To before From means that it passes midnight; both zero means the whole
	// day.
	From Clock `json:"from,omitzero"`
	To   Clock `json:"to,omitzero"`
	// Zone is an IANA time zone; empty means UTC.
	Zone string `json:"zone,omitempty"`
	// Blackout are days on which the window is closed, from midnight to midnight.
	Blackout []Dates `json:"blackout,omitempty"`
}

// Day is a day of the week: "mon", "tue", …
type Day string

var days = []Day{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Days returns all days, Monday first.
func Days() []Day { return append(slices.Clone(days[1:]), days[0]) }

// Valid reports whether d is a day.
func (d Day) Valid() bool { return slices.Contains(days, d) }

// Clock is a time of day in minutes since midnight, written 22:30. 24:00 is the end of a day.
type Clock int

// ParseClock reads HH:MM.
func ParseClock(text string) (Clock, error) {
	var h, m int
	if n, err := fmt.Sscanf(text, "%d:%d", &h, &m); err != nil || n != 2 || h < 0 || m < 0 || m > 59 || h*60+m > 24*60 || fmt.Sprintf("%02d:%02d", h, m) != fmt.Sprintf("%05s", text) {
		return 0, fmt.Errorf("%q is not a valid time of day; expected one like 22:30", text)
	}
	return Clock(h*60 + m), nil
}

func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", c/60, c%60) }

// MarshalText writes HH:MM.
func (c Clock) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads HH:MM.
func (c *Clock) UnmarshalText(text []byte) (err error) {
	*c, err = ParseClock(string(text))
	return err
}

// Dates are the days from First to Last, both included. In text: "2026-12-24" or "2026-12-24 to 2027-01-02".
type Dates struct{ First, Last time.Time }

// ParseDates reads one day or a range of days.
func ParseDates(text string) (Dates, error) {
	first, last, isRange := strings.Cut(text, " to ")
	a, err := time.Parse(time.DateOnly, strings.TrimSpace(first))
	b := a
	if isRange && err == nil {
		b, err = time.Parse(time.DateOnly, strings.TrimSpace(last))
	}
	switch {
	case err != nil:
		return Dates{}, fmt.Errorf("%q is not a valid date; expected one like 2026-12-24, or a range like 2026-12-24 to 2027-01-02", text)
	case b.Before(a):
		return Dates{}, fmt.Errorf("%q ends before it begins", text)
	}
	return Dates{a, b}, nil
}

func (d Dates) String() string {
	if d.First.Equal(d.Last) {
		return d.First.Format(time.DateOnly)
	}
	return d.First.Format(time.DateOnly) + " to " + d.Last.Format(time.DateOnly)
}

// MarshalText writes a day or a range.
func (d Dates) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a day or a range.
func (d *Dates) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDates(string(text))
	return err
}

// Location is the window's time zone. It fails for one that nobody knows.
func (w Window) Location() (*time.Location, error) {
	if strings.EqualFold(w.Zone, "local") {
		return nil, fmt.Errorf("the time zone %q means another one on every machine; name one like Europe/Berlin", w.Zone)
	}
	return time.LoadLocation(w.Zone)
}

// Opens reports whether the window opens on a day of the week.
func (w Window) Opens(d time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, days[d])
}

// Length is how long the window is open, by the clock on the wall.
func (w Window) Length() time.Duration {
	minutes := w.To - w.From
	if minutes <= 0 {
		minutes += 24 * 60
	}
	return time.Duration(minutes) * time.Minute
}

// Contains reports whether the window is open at a moment. One in a time zone that nobody knows is never open.
func (w Window) Contains(t time.Time) bool {
	zone, err := w.Location()
	if err != nil {
		return false
	}
	return w.contains(t.In(zone))
}

// contains is Contains for a moment in the window's zone.
func (w Window) contains(t time.Time) bool {
	if w.blackedOut(t) {
		return false
	}
	// By the clock, not by the time since it opened: a night on which the clocks change is an hour longer or shorter.
	now := clockOf(t)
	opened := time.Duration(w.From) * time.Minute
	today := w.Opens(t.Weekday()) && now >= opened && now < opened+w.Length()
	yesterday := w.Opens((t.Weekday()+6)%7) && now+24*time.Hour < opened+w.Length()
	return today || yesterday
}

func (w Window) blackedOut(t time.Time) bool {
	date := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return slices.ContainsFunc(w.Blackout, func(d Dates) bool { return !date.Before(d.First) && !date.After(d.Last) })
}

// clockOf is what a clock on the wall shows, as the time since midnight.
func clockOf(t time.Time) time.Duration {
	h, m, s := t.Clock()
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
}

func (w Window) String() string {
	text := "any day"
	if len(w.Days) == 0 && w.From == w.To {
		text = "any time"
	}
	if len(w.Days) > 0 {
		var names []string
		for _, d := range w.Days {
			names = append(names, string(d))
		}
		text = strings.Join(names, " ")
	}
	if w.From != w.To {
		text += fmt.Sprintf(" %s to %s", w.From, w.To)
	}
	if w.Zone != "" {
		text += " " + w.Zone
	}
	if len(w.Blackout) > 0 {
		text += fmt.Sprintf(", but for %d blackout(s)", len(w.Blackout))
	}
	return text
}

// Beat is when, on each of its days, the schedule of one key asks whether the key is due.
type Beat struct {
	Window
	// At is the time of day by the clocks of the window's zone, in whole seconds. It is less than 24 h.
	At time.Duration
	// NextDay: the beat comes after midnight, on the day after the one on which the window opened.
	NextDay bool
}

// Beat is the beat of a key: always the same one, and spread over the whole window from key to key, so that many keys
// never rotate in one second.
func (w Window) Beat(install, key string) Beat {
	at := time.Duration(w.From)*time.Minute + Spread(install, key, w.Length())
	if at >= day {
		return Beat{w, at - day, true}
	}
	return Beat{w, at, false}
}

// Spread is a whole number of seconds below over, always the same for a key and spread evenly from key to key.
func Spread(install, key string, over time.Duration) time.Duration {
	sum := sha256.Sum256([]byte(install + "/" + key))
	return time.Duration(binary.BigEndian.Uint64(sum[:8])%uint64(over/time.Second)) * time.Second
}

// Weekdays are the days of the week on which the beat comes, Sunday first.
func (b Beat) Weekdays() []time.Weekday {
	var all []time.Weekday
	for d := time.Sunday; d <= time.Saturday; d++ {
		opened := d
		if b.NextDay {
			opened = (d + 6) % 7
		}
		if b.Opens(opened) {
			all = append(all, d)
		}
	}
	return all
}

// Next returns up to n beats after a moment, as Temporal's schedules count them: a time that the clocks leave out comes
// on no such day, one that they show twice comes once or twice. There are fewer than n if a blackout never ends.
func (b Beat) Next(after time.Time, n int) []time.Time {
	zone, err := b.Location()
	if err != nil {
		return nil
	}
	weekdays := b.Weekdays()
	h, m, s := int(b.At/time.Hour), int(b.At/time.Minute)%60, int(b.At/time.Second)%60
	var all []time.Time
	start := after.In(zone)
	// The longest way to the next beat is a blackout; nobody plans further than this.
	for ahead := -1; len(all) < n && ahead < 20*366; ahead++ {
		y, mo, d := start.Year(), start.Month(), start.Day()+ahead
		guess := time.Date(y, mo, d, h, m, s, 0, zone)
		date := time.Date(y, mo, d, 0, 0, 0, 0, time.UTC)
		for _, t := range []time.Time{guess, guess.Add(time.Hour)} {
			// time.Date moves a time that does not exist. Of two it takes the first one west of Greenwich, the second one
			// east of it; and so does Temporal.
			same := clockOf(t) == b.At && t.Day() == date.Day()
			if same && t.After(after) && len(all) < n && slices.Contains(weekdays, t.Weekday()) && !b.blackedOut(t) {
				all = append(all, t)
			}
		}
	}
	return all
}

// NextOpen is the first moment from t on at which the window is open: t itself, or the next opening. ok is false for a
// window that does not open within a fortnight, or whose time zone nobody knows.
func (w Window) NextOpen(t time.Time) (open time.Time, ok bool) {
	zone, err := w.Location()
	if err != nil {
		return t, false
	}
	start := t.In(zone)
	if w.contains(start) {
		return t, true
	}
	for ahead := 0; ahead <= 14; ahead++ {
		y, m, d := start.Year(), start.Month(), start.Day()+ahead
		// A blackout can end at midnight, in the middle of a window.
		if midnight := time.Date(y, m, d, 0, 0, 0, 0, zone); midnight.After(t) && w.contains(midnight) {
			return midnight, true
		}
		// Where the clocks change, time.Date names a moment near the opening; minute by minute finds it.
		near := time.Date(y, m, d, int(w.From)/60, int(w.From)%60, 0, 0, zone)
		for off := -90 * time.Minute; off <= 90*time.Minute; off += time.Minute {
			if guess := near.Add(off); guess.After(t) && w.contains(guess) {
				return guess, true
			}
		}
	}
	return t, false
}

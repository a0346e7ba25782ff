package rotation

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// monday is nine o'clock on a Monday, by the clocks of Berlin.
var monday = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// office is open on working days, from eight to six by the clocks of Berlin.
func office(t *testing.T) Window {
	t.Helper()
	return window(t, []Day{"mon", "tue", "wed", "thu", "fri"}, "08:00", "18:00", "Europe/Berlin")
}

// week is a wait with the policy's defaults.
func week(began time.Time) ReminderSchedule {
	p := Policy{Patience: Duration(7 * day)}
	return ReminderSchedule{Began: began, Deadline: began.Add(7 * day), Remind: p.RemindAfter(), EscalateAfter: p.EscalatesAfter()}
}

// word is what a channel is told when.
type word struct {
	after time.Duration
	about Event
}

// words are the first n that a channel hears, if nobody answers.
func (w ReminderSchedule) words(c ReminderState, n int) []word {
	var all []word
	now := w.Began
	for range n {
		at, about := w.Next(c, now, Channel.After)
		all = append(all, word{at.Sub(w.Began), about})
		c.Count, c.Since, c.Overdue, now = c.Count+1, at, about == EventOverdue, at
	}
	return all
}

func TestWhoIsToldWhen(t *testing.T) {
	friday := monday.Add(4*day + 7*time.Hour) // four o'clock
	late := friday.Add(5 * time.Hour)         // nine o'clock
	for sentence, tc := range map[string]struct {
		wait    func(*ReminderSchedule)
		began   time.Time
		contact func(*ReminderState)
		want    []word
	}{
		"a first channel at once, and reminded at intervals that grow": {
			want: []word{{0, EventNeeded}, {day, EventReminder}, {3 * day, EventReminder}, {5 * day, EventReminder}, {7 * day, EventOverdue}, {9 * day, EventOverdue}},
		},
		"a second channel when half of the patience is over": {
			contact: func(c *ReminderState) { c.Escalation = true },
			want:    []word{{84 * time.Hour, EventEscalation}, {108 * time.Hour, EventReminder}, {156 * time.Hour, EventReminder}, {7 * day, EventOverdue}},
		},
		"a long first interval does not shrink": {
			wait: func(w *ReminderSchedule) { w.Remind = 3 * day },
			want: []word{{0, EventNeeded}, {3 * day, EventReminder}, {6 * day, EventReminder}, {7 * day, EventOverdue}, {10 * day, EventOverdue}},
		},
		"not at the weekend: one word on Monday, however many reminders fell into it": {
			began: friday, wait: func(w *ReminderSchedule) { w.Remind = 6 * time.Hour },
			contact: func(c *ReminderState) { c.Hours = office(t) },
			// Friday 16:00; Monday 08:00; 12 h later is quiet, so Tuesday 08:00; a day later Wednesday 08:00; two days: Friday.
			want: []word{{0, EventNeeded}, {64 * time.Hour, EventReminder}, {88 * time.Hour, EventReminder}, {112 * time.Hour, EventReminder}, {160 * time.Hour, EventReminder}},
		},
		"what is needed since Friday night is first told on Monday": {
			began: late, contact: func(c *ReminderState) { c.Hours = office(t) },
			want: []word{{59 * time.Hour, EventNeeded}},
		},
		"an escalation waits for the morning": {
			began: monday, wait: func(w *ReminderSchedule) { w.EscalateAfter = 12 * time.Hour },
			contact: func(c *ReminderState) { c.Escalation, c.Hours = true, office(t) },
			want:    []word{{23 * time.Hour, EventEscalation}},
		},
		"an escalation passes quiet time if the deadline would come first": {
			began: late, wait: func(w *ReminderSchedule) { w.Deadline, w.EscalateAfter = late.Add(day), 12*time.Hour },
			contact: func(c *ReminderState) { c.Escalation, c.Hours = true, office(t) },
			want:    []word{{12 * time.Hour, EventEscalation}, {59 * time.Hour, EventOverdue}},
		},
		"a first channel does not pass it if there is a second": {
			began: late, wait: func(w *ReminderSchedule) { w.Deadline, w.EscalateAfter = late.Add(day), 12*time.Hour },
			contact: func(c *ReminderState) { c.Hours = office(t) },
			want:    []word{{59 * time.Hour, EventOverdue}},
		},
		"a first channel that is the only one passes it when an escalation would be due": {
			began: late, wait: func(w *ReminderSchedule) {
				w.Deadline, w.EscalateAfter, w.NoEscalation = late.Add(day), 12*time.Hour, true
			},
			contact: func(c *ReminderState) { c.Hours = office(t) },
			want:    []word{{12 * time.Hour, EventNeeded}, {59 * time.Hour, EventOverdue}},
		},
		"hours of a time zone that nobody knows keep nobody from being told": {
			contact: func(c *ReminderState) { c.Hours = Window{From: 60, To: 120, Zone: "Nowhere/Atall"} },
			want:    []word{{0, EventNeeded}, {day, EventReminder}},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.began.IsZero() {
				tc.began = monday
			}
			w, c := week(tc.began), ReminderState{}
			if tc.wait != nil {
				tc.wait(&w)
			}
			if tc.contact != nil {
				tc.contact(&c)
			}
			if got := w.words(c, len(tc.want)); !slices.Equal(got, tc.want) {
				t.Errorf("got  %v\nwant %v", got, tc.want)
			}
		})
	}
}

func TestAnEmergencyKnowsNoQuietTime(t *testing.T) {
	w := week(monday.Add(12 * time.Hour))
	at, about := w.Next(ReminderState{Channel: Channel{Hours: office(t)}}, w.Began, nil)
	if !at.Equal(w.Began) || about != EventNeeded {
		t.Errorf("%s %s", at, about)
	}
}

func TestAWorkerThatWasDownOverEverythingTellsOnce(t *testing.T) {
	w := week(monday)
	c := ReminderState{Count: 1, Since: monday, Channel: Channel{Hours: office(t)}}
	// Nine o'clock in the evening, nine days later.
	now := monday.Add(9*day + 12*time.Hour)
	at, about := w.Next(c, now, Channel.After)
	if want := now.Add(11 * time.Hour); !at.Equal(want) || about != EventOverdue {
		t.Errorf("told at %s of %s, want at %s", at, about, want)
	}
	c.Count, c.Since, c.Overdue = 2, at, true
	if again, _ := w.Next(c, at, Channel.After); again.Sub(at) < day {
		t.Errorf("told again after %s", again.Sub(at))
	}
}

func TestAnExtensionMovesDeadlineEscalationAndReminders(t *testing.T) {
	w := week(monday)
	first, second := ReminderState{Count: 1, Since: monday}, ReminderState{Escalation: true}
	by := w.Extend(w.Deadline.Add(2*day), monday.Add(time.Hour))
	first.Extend(by)
	second.Extend(by)
	for _, tc := range []struct {
		c     ReminderState
		after time.Duration
	}{{first, 3 * day}, {second, 84*time.Hour + 2*day}} {
		if at, _ := w.Next(tc.c, monday.Add(time.Hour), Channel.After); !at.Equal(monday.Add(tc.after)) {
			t.Errorf("told %s after the beginning, want %s", at.Sub(monday), tc.after)
		}
	}
	t.Run("also after the deadline", func(t *testing.T) {
		w := week(monday)
		now := w.Deadline.Add(day)
		c := ReminderState{Count: 5, Since: w.Deadline, Overdue: true}
		if by := (&ReminderSchedule{Deadline: w.Deadline}).Extend(now.Add(2*day), now); by != 2*day {
			t.Errorf("reminders move by %s: the time that was over counts as well", by)
		}
		c.Extend(w.Extend(now.Add(2*day), now))
		if at, about := w.Next(c, now, Channel.After); !at.Equal(now.Add(2*day)) || about != EventOverdue {
			t.Errorf("told %s after, of %s", at.Sub(now), about)
		}
	})
}

func TestTheNextOpeningOfAWindow(t *testing.T) {
	for sentence, tc := range map[string]struct {
		w          Window
		from, want string
	}{
		"is now, if it is open":                           {office(t), "2026-11-23T09:30:17+01:00", "2026-11-23T09:30:17+01:00"},
		"is this morning":                                 {office(t), "2026-11-23T02:00:17+01:00", "2026-11-23T08:00:00+01:00"},
		"is tomorrow":                                     {office(t), "2026-11-23T18:00:00+01:00", "2026-11-24T08:00:00+01:00"},
		"is after the weekend":                            {office(t), "2026-11-27T18:00:00+01:00", "2026-11-30T08:00:00+01:00"},
		"is after the weekend that has an hour more":      {office(t), "2026-10-23T18:00:00+02:00", "2026-10-26T08:00:00+01:00"},
		"is after the weekend that has an hour less":      {office(t), "2026-03-27T18:00:00+01:00", "2026-03-30T08:00:00+02:00"},
		"is now, after midnight of a night":               {window(t, []Day{"sun"}, "22:00", "04:00", "Europe/Berlin"), "2026-11-23T01:00:00+01:00", "2026-11-23T01:00:00+01:00"},
		"is next Sunday for a night that is over":         {window(t, []Day{"sun"}, "22:00", "04:00", "Europe/Berlin"), "2026-11-23T04:00:00+01:00", "2026-11-29T22:00:00+01:00"},
		"comes with the clocks, where it is left out":     {window(t, nil, "02:30", "05:00", "Europe/Berlin"), "2026-03-28T22:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		"is the first of two, where the clocks go back":   {window(t, nil, "02:30", "05:00", "Europe/Berlin"), "2026-10-24T22:00:00+02:00", "2026-10-25T02:30:00+02:00"},
		"is the first of two also west of Greenwich":      {window(t, nil, "01:30", "05:00", "America/New_York"), "2026-10-31T22:00:00-04:00", "2026-11-01T01:30:00-04:00"},
		"is after a blackout of more than a week":         {window(t, nil, "08:00", "18:00", "UTC", "2026-11-23 to 2026-12-03"), "2026-11-23T09:00:00Z", "2026-12-04T08:00:00Z"},
		"is midnight after a blackout":                    {window(t, nil, "22:00", "04:00", "UTC", "2026-11-23"), "2026-11-23T12:00:00Z", "2026-11-24T00:00:00Z"},
		"is midnight for whole days":                      {window(t, []Day{"tue"}, "00:00", "24:00", "UTC"), "2026-11-23T12:00:00Z", "2026-11-24T00:00:00Z"},
		"is half an hour off where the zone is":           {window(t, nil, "08:00", "18:00", "Asia/Kolkata"), "2026-11-23T00:00:00Z", "2026-11-23T02:30:00Z"},
		"is a day later beyond the date line, Kiritimati": {window(t, []Day{"mon"}, "08:00", "18:00", "Pacific/Kiritimati"), "2026-11-22T00:00:00Z", "2026-11-22T18:00:00Z"},
	} {
		t.Run(sentence, func(t *testing.T) {
			from, err := time.Parse(time.RFC3339, tc.from)
			if err != nil {
				t.Fatal(err)
			}
			open, ok := tc.w.NextOpen(from)
			if want, err := time.Parse(time.RFC3339, tc.want); err != nil || !ok || !open.Equal(want) {
				t.Errorf("got %s %v, want %s", open, ok, tc.want)
			}
			if !tc.w.Contains(open) {
				t.Error("it is not open then")
			}
		})
	}
	if _, ok := window(t, nil, "08:00", "18:00", "UTC", "2026-01-01 to 2026-12-31").NextOpen(monday.Add(-90 * day)); ok {
		t.Error("a window that is closed for months opens")
	}
}

func TestANoticeIsShortAndHoldsNoKey(t *testing.T) {
	key := "sk-proj-" + strings.Repeat("a", 40)
	n := Notification{
		ID: "aipm4sev-awaiting-key-1", Event: EventNeeded, Key: "openai-prod", Provider: "openai", Tier: Production, Reason: Scheduled, Phase: AwaitingKey,
		Message: strings.Repeat("Make a new key. ", 40), Deadline: monday, Otherwise: "Then it rolls back.", Command: "rekey supply openai-prod",
		Note: "the key is " + key + "\nuse it", Notified: []string{"team", "oncall", "a", "b", "c", "d"}, Link: "https://temporal.example.com/namespaces/default/workflows/rotate%2Fopenai-prod",
	}
	text := n.Clean().Text()
	if len(text) >= 1024 || strings.Contains(text, key) {
		t.Errorf("%d bytes: %s", len(text), text)
	}
	for _, want := range []string{"A person is needed: openai-prod", "Until 2026-11-23 08:00 UTC. Then it rolls back.", "rekey supply openai-prod", n.Link, "Also notified: team, oncall", "looks like a key"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	n.Message = "two\nlines\x1b[31m\u202e"
	if got := n.Clean().Message; strings.ContainsAny(got, "\n\x1b\u202e") {
		t.Errorf("%q", got)
	}
	n.Event, n.Link = "needed\r\n", "https://temporal.example.com/\rpasted"
	if c := n.Clean(); strings.ContainsAny(string(c.Event)+c.Link, "\r\n") || strings.Contains(c.Text(), "pasted") {
		t.Errorf("%q, %q", c.Event, c.Link)
	}
}

func FuzzANoticeIsNeverLongNorInPieces(f *testing.F) {
	f.Add("needed", "openai-prod", "Make a key.", "note", "https://x")
	f.Add("needed", "0", "", "", "\r0")
	f.Add("\r", "0", "", "", "https://x")
	f.Fuzz(func(t *testing.T, about, key, need, note, link string) {
		n := Notification{Event: Event(about), Key: key, Message: need, Note: note, Otherwise: need, Command: note, Link: link, Deadline: monday}
		if len(about) > 20 {
			n.Event = EventNeeded
		}
		text := n.Clean().Text()
		if len(text) >= 1024 || strings.Contains(strings.TrimSuffix(text, "…"), "\r") {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	})
}

func TestASecondChannelIsRemindedWithTheFirst(t *testing.T) {
	began := clock
	w := ReminderSchedule{Began: began, Deadline: began.Add(7 * day), Remind: day, EscalateAfter: 84 * time.Hour}
	lead := func(count int, since time.Duration) ReminderState {
		return ReminderState{Count: count, Since: began.Add(since)}
	}
	for sentence, c := range map[string]struct {
		second, first ReminderState
		want          time.Duration
	}{
		"the first is reminded later":                       {lead(1, 84*time.Hour), lead(3, 72*time.Hour), 120 * time.Hour},
		"both were told at once":                            {lead(2, 120*time.Hour), lead(4, 120*time.Hour), 7 * day},
		"the first is reminded a moment after the second":   {lead(1, 71*time.Hour), lead(2, 24*time.Hour), 120 * time.Hour},
		"the first is reminded half an interval after that": {lead(1, 60*time.Hour), lead(2, 24*time.Hour), 72 * time.Hour},
	} {
		t.Run(sentence, func(t *testing.T) {
			c.second.Escalation = true
			at, about := w.Next(w.Following(c.second, c.first), began.Add(50*time.Hour), nil)
			if got := at.Sub(began); got != c.want {
				t.Errorf("told %v after the beginning (%s), want %v", got, about, c.want)
			}
		})
	}
}

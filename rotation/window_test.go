package rotation

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func window(t *testing.T, days []Day, from, to, zone string, blackout ...string) Window {
	t.Helper()
	w := Window{Days: days, Zone: zone}
	var err error
	for _, c := range []struct {
		text string
		to   *Clock
	}{{from, &w.From}, {to, &w.To}} {
		if *c.to, err = ParseClock(c.text); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range blackout {
		d, err := ParseDates(b)
		if err != nil {
			t.Fatal(err)
		}
		w.Blackout = append(w.Blackout, d)
	}
	return w
}

func TestAWindowIsOpen(t *testing.T) {
	working := []Day{"mon", "tue", "wed", "thu", "fri"}
	morning := window(t, working, "09:00", "11:30", "Europe/Berlin")
	night := window(t, []Day{"sun"}, "22:00", "04:00", "Europe/Berlin")
	holidays := window(t, nil, "09:00", "24:00", "America/New_York", "2026-12-24 to 2027-01-02", "2026-07-04")
	for name, tc := range map[string]struct {
		w    Window
		at   string
		want bool
	}{
		"always, if nobody said when":                     {Window{}, "2026-11-23T03:04:05Z", true},
		"at its first second, in winter":                  {morning, "2026-11-23T08:00:00Z", true},
		"not a second before":                             {morning, "2026-11-23T07:59:59Z", false},
		"at its first second, in summer":                  {morning, "2026-07-20T07:00:00Z", true},
		"not an hour later in summer than its end":        {morning, "2026-07-20T09:30:00Z", false},
		"until its last second":                           {morning, "2026-11-23T10:29:59Z", true},
		"not at its end":                                  {morning, "2026-11-23T10:30:00Z", false},
		"not on a day that is not its own":                {morning, "2026-11-22T09:00:00Z", false},
		"before midnight":                                 {night, "2026-11-22T21:30:00Z", true},
		"after midnight, on the next day":                 {night, "2026-11-23T02:59:59Z", true},
		"not after its end on the next day":               {night, "2026-11-23T03:00:00Z", false},
		"not after the midnight before its day":           {night, "2026-11-22T00:30:00Z", false},
		"by the clock in the night that is shorter":       {window(t, []Day{"sat"}, "22:00", "04:00", "Europe/Berlin"), "2026-03-29T01:59:59Z", true},
		"not longer in the night that is shorter":         {window(t, []Day{"sat"}, "22:00", "04:00", "Europe/Berlin"), "2026-03-29T02:00:00Z", false},
		"longer in the night that is longer":              {window(t, []Day{"sat"}, "22:00", "04:00", "Europe/Berlin"), "2026-10-25T02:59:59Z", true},
		"both times that the clock shows half past two":   {window(t, nil, "02:00", "03:00", "Europe/Berlin"), "2026-10-25T01:30:00Z", true},
		"also the first time that it shows half past two": {window(t, nil, "02:00", "03:00", "Europe/Berlin"), "2026-10-25T00:30:00Z", true},
		"not while the clock leaves its hour out":         {window(t, nil, "02:00", "03:00", "Europe/Berlin"), "2026-03-29T01:30:00Z", false},
		"until the end of the day":                        {holidays, "2026-12-01T04:59:59Z", true},
		"not on a blackout day":                           {holidays, "2026-07-04T18:00:00Z", false},
		"on the day before it, by its own clock":          {holidays, "2026-07-04T03:59:59Z", true},
		"not on the first day of a range":                 {holidays, "2026-12-24T15:00:00Z", false},
		"not on the last day of a range":                  {holidays, "2027-01-02T15:00:00Z", false},
		"on the day after the range":                      {holidays, "2027-01-03T15:00:00Z", true},
		"never, in a zone that nobody knows":              {Window{Zone: "Europe/Bonn"}, "2026-11-23T03:04:05Z", false},
		"not after midnight, if that day is blacked out":  {window(t, nil, "22:00", "04:00", "UTC", "2026-12-24"), "2026-12-24T01:00:00Z", false},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, tc.at)
			if err != nil {
				t.Fatal(err)
			}
			if got := tc.w.Contains(at); got != tc.want {
				t.Errorf("%s at %s: open is %v", tc.w, tc.at, got)
			}
		})
	}
}

func TestTheBeatsOfAFleetAreSpreadOverTheWholeWindow(t *testing.T) {
	for name, w := range map[string]Window{
		"an hour":                      window(t, nil, "03:00", "04:00", "UTC"),
		"a night that passes midnight": window(t, nil, "22:00", "06:00", "Europe/Berlin"),
		"the whole day":                {},
	} {
		t.Run(name, func(t *testing.T) {
			seconds := map[time.Duration]int{}
			tenths := make([]int, 10)
			for i := range 1000 {
				b := w.Beat("abc123", fmt.Sprintf("key-%d", i))
				offset := b.At - time.Duration(w.From)*time.Minute
				if b.NextDay {
					offset += day
				}
				if offset < 0 || offset >= w.Length() {
					t.Fatalf("key-%d beats %s after the window opens; it is %s long", i, offset, w.Length())
				}
				seconds[offset]++
				tenths[int(offset*10/w.Length())]++
			}
			for second, keys := range seconds {
				if keys > 6 {
					t.Errorf("%d of 1000 keys beat in one second (%s)", keys, second)
				}
			}
			for i, keys := range tenths {
				if keys < 60 || keys > 140 {
					t.Errorf("%d of 1000 keys beat in tenth %d of the window", keys, i)
				}
			}
		})
	}
}

func TestTheBeatOfAKeyIsAlwaysTheSameAndAnotherInAnotherInstall(t *testing.T) {
	w := window(t, nil, "03:00", "05:00", "UTC")
	if a, b := w.Beat("abc123", "ci"), w.Beat("abc123", "ci"); a.At != b.At {
		t.Errorf("%s and %s", a.At, b.At)
	}
	// A beat that moved would be a change of every schedule.
	if got := w.Beat("abc123", "ci").At.String(); got != "3h4m13s" {
		t.Errorf("the beat of ci has moved to %s", got)
	}
	if w.Beat("abc123", "ci").At == w.Beat("abc124", "ci").At {
		t.Error("two installs beat in one second")
	}
}

func TestTheNextBeats(t *testing.T) {
	at := func(w Window, h, m int, nextDay bool) Beat {
		return Beat{w, time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, nextDay}
	}
	berlin := window(t, nil, "01:00", "04:00", "Europe/Berlin")
	sunday := window(t, []Day{"sun"}, "22:00", "04:00", "Europe/Berlin")
	for name, tc := range map[string]struct {
		b     Beat
		after string
		want  []string
	}{
		"come every day":                      {at(Window{}, 3, 4, false), "2026-11-23T03:04:00Z", []string{"2026-11-24T03:04:00Z", "2026-11-25T03:04:00Z"}},
		"come the same day, if there is time": {at(Window{}, 3, 4, false), "2026-11-23T03:03:59Z", []string{"2026-11-23T03:04:00Z"}},
		"come an hour earlier in summer":      {at(berlin, 3, 30, false), "2026-03-28T00:00:00Z", []string{"2026-03-28T02:30:00Z", "2026-03-29T01:30:00Z"}},
		"do not come at a time that the clocks leave out": {
			at(berlin, 2, 30, false), "2026-03-28T00:00:00Z", []string{"2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"},
		},
		"come once at a time that the clocks of Berlin show twice": {
			at(berlin, 2, 30, false), "2026-10-24T12:00:00Z", []string{"2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"},
		},
		"come twice at a time that the clocks of New York show twice": {
			at(window(t, nil, "01:00", "02:00", "America/New_York"), 1, 30, false), "2026-10-31T12:00:00Z", []string{"2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z"},
		},
		"come on the next day after midnight": {at(sunday, 3, 0, true), "2026-11-20T00:00:00Z", []string{"2026-11-23T02:00:00Z", "2026-11-30T02:00:00Z"}},
		"come on the day itself before it":    {at(sunday, 23, 0, false), "2026-11-20T00:00:00Z", []string{"2026-11-22T22:00:00Z"}},
		"leave a blackout out": {
			at(window(t, nil, "03:00", "05:00", "UTC", "2026-12-24 to 2026-12-26"), 4, 0, false), "2026-12-23T00:00:00Z",
			[]string{"2026-12-23T04:00:00Z", "2026-12-27T04:00:00Z"},
		},
		"end, where a blackout does not": {at(window(t, nil, "03:00", "05:00", "UTC", "2026-01-01 to 2999-12-31"), 4, 0, false), "2026-12-23T00:00:00Z", nil},
	} {
		t.Run(name, func(t *testing.T) {
			after, err := time.Parse(time.RFC3339, tc.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, b := range tc.b.Next(after, max(1, len(tc.want))) {
				got = append(got, b.UTC().Format(time.RFC3339))
				if !tc.b.Contains(b) {
					t.Errorf("%s lies outside the window", b)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsNoTimeAndNoDateIsRefused(t *testing.T) {
	for _, text := range []string{"", "25:00", "24:01", "9", "9:5", "12:60", "-1:00", "12:30:00", "noon", " 12:30", "12:30 "} {
		if c, err := ParseClock(text); err == nil {
			t.Errorf("%q is read as %s", text, c)
		}
	}
	for _, text := range []string{"", "2026-02-30", "24.12.2026", "2026-12-24 to", "2026-12-24 to 2026-12-23", "2026-12-24, 2026-12-25"} {
		if d, err := ParseDates(text); err == nil {
			t.Errorf("%q is read as %s", text, d)
		}
	}
}

func TestAWindowReadsInAHistoryAsItStandsInTheFile(t *testing.T) {
	w := window(t, []Day{"mon"}, "22:00", "04:30", "Europe/Berlin", "2026-12-24", "2026-12-30 to 2027-01-02")
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"days":["mon"],"from":"22:00","to":"04:30","zone":"Europe/Berlin","blackout":["2026-12-24","2026-12-30 to 2027-01-02"]}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	var back Window
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, back); diff != "" {
		t.Error(diff)
	}
	if text, _ := json.Marshal(Window{}); string(text) != "{}" {
		t.Errorf("no window is %s", text)
	}
}

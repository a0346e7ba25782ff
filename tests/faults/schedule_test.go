package faults

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheLineOfAScheduleIsTheSchedule(t *testing.T) {
	for seed := range uint64(2000) {
		s := Generate(seed)
		again, err := Parse(s.String())
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if again.String() != s.String() {
			t.Fatalf("%s became %s", s, again)
		}
	}
}

func TestABadScheduleSaysWhatWasExpected(t *testing.T) {
	for sentence, c := range map[string]struct{ text, want string }{
		"nothing at all":                        {"", "or nothing"},
		"a setting that is none":                {"colour=red", `"colour=red": there is no setting colour`},
		"a value that is none":                  {"grace=3h", "grace is one of 48h, 1h, 0s"},
		"a word":                                {"lose", "expected name=value, or an event such as request/17/lose"},
		"an event at nothing":                   {"moon/1/full", "events happen at a request, activity or notice"},
		"an event that does not happen there":   {"request/1/terminate", "at a request there is one of 500, 503"},
		"a count that is none":                  {"request/x/lose", `"x" does not count anything`},
		"a count before the first":              {"request/-1/lose", `"-1" does not count anything`},
		"a kill of the test itself":             {"activity/1/kill", "add workers=1"},
		"a restart of what cannot be restarted": {"activity/1/restart", "add temporal=file"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: %v, want %s", c.text, err, c.want)
			}
		})
	}
}

func TestASeedOfOtherCodeIsRefused(t *testing.T) {
	if s, err := ParseSeed(Seed(42).String()); err != nil || s != 42 {
		t.Errorf("%v, %v", s, err)
	}
	for sentence, c := range map[string]struct{ text, want string }{
		"of other code":         {"abcdef-000000000000002a", "was made by other code"},
		"a number":              {"42", "expected one like " + generation},
		"with a digit too few":  {generation + "-00000000000002a", "expected one like"},
		"with a letter too far": {generation + "-000000000000002g", "expected one like"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := ParseSeed(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: %v, want %s", c.text, err, c.want)
			}
		})
	}
}

func TestAScheduleIsShortenedToWhatBreaks(t *testing.T) {
	long, err := Parse("provider=openai stores=gsm,asm,gsm-latest approve=yes grace=0s lags=some workers=2 request/3/lose activity/5/reset request/9/500 activity/7/kill request/20/late notice/1/twice")
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	short := minimise(long, 200, func(s Schedule) bool {
		tries++
		has := func(text string) bool {
			return slices.ContainsFunc(s.Events, func(e Event) bool { return e.String() == text })
		}
		return has("activity/5/reset") && has("request/20/late") && s.Settings[ofLags] == "some"
	})
	if want := "lags=some activity/5/reset request/20/late"; short.String() != want {
		t.Errorf("%s, want %s", short, want)
	}
	t.Logf("%d tries", tries)
}

func TestACampaignThatWasStoppedGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	open := func() *campaign {
		c := &campaign{seed: 7, told: map[int]bool{}}
		if err := c.resume(file); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := open()
	for n := range 3 {
		if err := first.write(entry{N: n, Events: 2, Broken: [][]string{nil, {"I1: broken"}, nil}[n]}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"n":3,"sched`) // it was stopped while it wrote
	_ = f.Close()
	again := open()
	if got := again.String(); got != "campaign: 3 schedules, 6 faults, 1 violations" || again.seed != 7 || again.told[3] || !again.told[2] {
		t.Errorf("%s, seed %s, told %v", got, again.seed, again.told)
	}
	if err := again.write(entry{N: 3, Events: 1}); err != nil {
		t.Fatal(err)
	}
	if got := open().String(); got != "campaign: 4 schedules, 7 faults, 1 violations" {
		t.Error(got)
	}
}

func TestALogThatIsNoneSaysSo(t *testing.T) {
	for sentence, c := range map[string]struct{ text, want string }{
		"a damaged line in the middle": {`{"campaign":"` + Seed(7).String() + "\"}\n{\"n\":0\n{\"n\":1}\n", "log:2: not a line of a campaign's log"},
		"of other code":                {`{"campaign":"abcdef-0000000000000007"}` + "\n", "was made by other code"},
		"another file":                 {"hello\nworld\n", "log:1: not a line"},
	} {
		t.Run(sentence, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := (&campaign{told: map[int]bool{}}).resume(file)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if after, _ := os.ReadFile(file); string(after) != c.text {
				t.Errorf("the file was changed: %q", after)
			}
		})
	}
}

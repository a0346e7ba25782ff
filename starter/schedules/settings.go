package schedules

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rekeyhq/rekey/rotation"
)

// Settings are all settings of a schedule in one form, by name, whoever wrote them and however: two schedules that do
// the same have the same. Whether it is paused is none of them.
type Settings map[string]string

// settings brings a schedule into that form. It forgets nothing: what it has no words for comes under the name that
// Temporal returns it.
func settings(s *schedulepb.Schedule) Settings {
	out := Settings{
		"beats": calendars(s.GetSpec().GetStructuredCalendar()), "blackout": calendars(s.GetSpec().GetExcludeStructuredCalendar()),
		"zone": s.GetSpec().GetTimezoneName(),
	}
	rest := proto.CloneOf(s)
	if rest.Spec != nil {
		rest.Spec.StructuredCalendar, rest.Spec.ExcludeStructuredCalendar, rest.Spec.TimezoneName = nil, nil, ""
	}
	if rest.State != nil {
		rest.State.Paused, rest.State.Notes = false, ""
	}
	if a := rest.GetAction().GetStartWorkflow(); a != nil {
		for i, p := range a.GetInput().GetPayloads() {
			name := ""
			if i > 0 {
				name = fmt.Sprintf("input[%d].", i)
			}
			flatten(out, name, decoded(p))
		}
		for name, p := range a.GetMemo().GetFields() {
			flatten(out, "memo."+name, decoded(p))
		}
		for name, p := range map[string]*commonpb.Payload{"summary": a.GetUserMetadata().GetSummary(), "details": a.GetUserMetadata().GetDetails()} {
			if p != nil {
				flatten(out, name, decoded(p))
			}
		}
		a.Input, a.Memo, a.UserMetadata = nil, nil, nil
	}
	// protojson fails for text that is no UTF-8 only; then the digest still differs.
	if b, err := protojson.Marshal(rest); err == nil {
		var tree any
		if json.Unmarshal(b, &tree) == nil {
			flatten(out, "", tree)
		}
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

// decoded is the JSON in a payload; what is none counts as text.
func decoded(p *commonpb.Payload) any {
	var tree any
	if json.Unmarshal(p.GetData(), &tree) == nil {
		return tree
	}
	return string(p.GetData())
}

// flatten puts the leaves of a tree under their paths.
func flatten(out Settings, path string, tree any) {
	switch t := tree.(type) {
	case map[string]any:
		for name, v := range t {
			if path != "" && !strings.HasSuffix(path, ".") {
				name = "." + name
			}
			flatten(out, path+name, v)
		}
	case []any:
		for i, v := range t {
			flatten(out, fmt.Sprintf("%s[%d]", path, i), v)
		}
	case nil:
	default:
		out[path] = fmt.Sprint(t)
	}
}

// digest names settings, so that a change by hand can be distinguished from a change of the file.
func digest(s Settings) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if name != "memo."+digestMemo {
			fmt.Fprintf(h, "%q=%q\n", name, s[name])
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// owner says which install a schedule belongs to; empty if it is none of rekey's. The mark on the schedule itself
// counts before the input, which a person can edit.
func owner(memo *commonpb.Memo, s *schedulepb.Schedule) string {
	var install string
	if p := memo.GetFields()[installMemo]; p != nil && converter.GetDefaultDataConverter().FromPayload(p, &install) == nil && install != "" {
		return install
	}
	var input struct {
		Install string `json:"install"`
	}
	if a := s.GetAction().GetStartWorkflow(); a.GetWorkflowType().GetName() == dispatcher && len(a.GetInput().GetPayloads()) > 0 {
		_ = converter.GetDefaultDataConverter().FromPayload(a.Input.Payloads[0], &input)
	}
	return input.Install
}

// calendars says when calendars match, in any order and however their ranges are cut.
func calendars(all []*schedulepb.StructuredCalendarSpec) string {
	var lines []string
	for _, c := range all {
		lines = append(lines, calendar(c))
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), ", ")
}

func calendar(c *schedulepb.StructuredCalendarSpec) string {
	var parts []string
	month, day, year := list(c.Month, 1, 12, nil), list(c.DayOfMonth, 1, 31, nil), list(c.Year, 0, -1, nil)
	if month+day+year != "" {
		parts = append(parts, fmt.Sprintf("%s-%s-%s", or(year, "*"), or(month, "*"), or(day, "*")))
	}
	names := func(i int) string {
		// Sunday comes last in Days.
		return string(rotation.Days()[(i+6)%7])
	}
	if days := list(c.DayOfWeek, 0, 6, names); days != "" {
		parts = append(parts, days)
	}
	h, m, s := list(c.Hour, 0, 23, nil), list(c.Minute, 0, 59, nil), list(c.Second, 0, 59, nil)
	if h+m+s != "" {
		parts = append(parts, fmt.Sprintf("%s:%s:%s", or(h, "*"), or(m, "*"), or(s, "*")))
	}
	return or(strings.Join(parts, " "), "always")
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// list says which numbers ranges match: nothing if all from low to high, "none" if none.
func list(ranges []*schedulepb.Range, low, high int, name func(int) string) string {
	match := map[int]bool{}
	for _, r := range ranges {
		for i := r.GetStart(); i <= max(r.GetStart(), r.GetEnd()); i += max(1, r.GetStep()) {
			match[int(i)] = true
		}
	}
	switch {
	case high < low && len(match) == 0:
		return ""
	case high >= low && len(match) == high-low+1:
		return ""
	case len(match) == 0:
		return "none"
	}
	if name == nil {
		name = func(i int) string { return fmt.Sprintf("%02d", i) }
	}
	numbers := slices.Sorted(maps.Keys(match))
	var out []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		switch {
		case j > i+1:
			out = append(out, name(numbers[i])+".."+name(numbers[j]))
		case j > i:
			out = append(out, name(numbers[i]), name(numbers[j]))
		default:
			out = append(out, name(numbers[i]))
		}
		i = j + 1
	}
	return strings.Join(out, "+")
}

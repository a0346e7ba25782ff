package version_test

import (
	"runtime/debug"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/version"
)

func TestTheVersionSaysWhatAProgramWasBuiltFrom(t *testing.T) {
	setting := func(all ...string) (s []debug.BuildSetting) {
		for i := 0; i < len(all); i += 2 {
			s = append(s, debug.BuildSetting{Key: all[i], Value: all[i+1]})
		}
		return s
	}
	const revision, at = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "2026-11-25T04:43:00Z"
	for sentence, c := range map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"a release":        {debug.BuildInfo{Main: debug.Module{Version: "v1.2.0"}, GoVersion: "go1.26.8", Settings: setting("vcs.revision", revision, "vcs.time", at, "vcs.modified", "false")}, "v1.2.0 (revision 0a1b2c3d4e5f of " + at + ", go1.26.8)"},
		"a changed copy":   {debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, GoVersion: "go1.26.8", Settings: setting("vcs.revision", revision, "vcs.modified", "true")}, "devel (revision 0a1b2c3d4e5f, modified, go1.26.8)"},
		"no repository":    {debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, GoVersion: "go1.26.8"}, "devel (go1.26.8)"},
		"a short revision": {debug.BuildInfo{Settings: setting("vcs.revision", "42")}, "devel (revision 42)"},
		"nothing at all":   {debug.BuildInfo{}, "devel"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := version.Of(&c.info); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	if got := version.String(); !strings.Contains(got, "go1.") {
		t.Errorf("this program says %q", got)
	}
}

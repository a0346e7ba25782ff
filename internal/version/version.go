// Package version says which rekey a program is, from what the Go toolchain writes into it.
package version

import (
	"runtime/debug"
	"strings"
)

// shortRevision is how much of a revision is shown.
const shortRevision = 12

// String is the version of the program that is running, as String of its build information.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return Of(info)
}

// Of says in one line which version a program is, from which revision of the repository it was built, and with which Go:
// "v1.2.0 (revision 0a1b2c3d4e5f of 2026-11-25T04:43:00Z, go1.26.8)". What was built from files that are not committed says
// "modified"; what is not known is left out.
func Of(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version := strings.Trim(info.Main.Version, "()")
	if version == "" {
		version = "devel"
	}
	var parts []string
	if revision := settings["vcs.revision"]; revision != "" {
		text := "revision " + revision[:min(shortRevision, len(revision))]
		if at := settings["vcs.time"]; at != "" {
			text += " of " + at
		}
		if settings["vcs.modified"] == "true" {
			text += ", modified"
		}
		parts = append(parts, text)
	}
	if info.GoVersion != "" {
		parts = append(parts, info.GoVersion)
	}
	if len(parts) == 0 {
		return version
	}
	return version + " (" + strings.Join(parts, ", ") + ")"
}

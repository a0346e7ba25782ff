//go:build unix

package local

import (
	"os"
	"syscall"
)

// owner is the user whom a file belongs to.
func owner(info os.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

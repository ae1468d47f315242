// Writes one stack trace of each kind, each behind a line `== name`, and dies of the last one: which
// that is says the argument.
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

type tree struct{ left *tree }

func (t *tree) depth() int { return t.left.depth() + 1 }

func inner(n int) {
	if n == 0 {
		panic(errors.New("the cause"))
	}
	inner(n - 1)
}

func again() {
	defer func() {
		panic(fmt.Sprint("again: ", recover()))
	}()
	inner(2)
}

func repanics() {
	defer func() {
		err := recover()
		panic(err)
	}()
	inner(2)
}

func deadlock() {
	var group sync.WaitGroup
	group.Add(1)
	group.Wait()
}

func endless(n int) int { return endless(n+1) + 1 }

func concurrent() {
	numbers := map[int]int{}
	for i := 0; i < 4; i++ {
		go func() {
			for {
				numbers[1]++
			}
		}()
	}
	time.Sleep(time.Minute)
}

func handled() {
	defer func() {
		err := recover()
		os.Stderr.WriteString(fmt.Sprintf("2026/01/01 00:00:00 http: panic serving 127.0.0.1:1: %v\n%s", err, debug.Stack()))
	}()
	inner(2)
}

func waiters() {
	for i := 0; i < 3; i++ {
		go func() { time.Sleep(time.Minute) }()
	}
	go func() { select {} }()
	time.Sleep(10 * time.Millisecond)
}

func main() {
	deaths := map[string]func(){
		"panic":      func() { inner(2) },
		"text":       func() { panic("a text\n  of lines\n  that are indented") },
		"again":      again,
		"repanics":   repanics,
		"nil":        func() { fmt.Println((&tree{}).depth()) },
		"index":      func() { fmt.Println(os.Args[len(os.Args)]) },
		"map":        func() { var none map[string]int; none["a"] = 1 },
		"deadlock":   deadlock,
		"endless":    func() { fmt.Println(endless(0)) },
		"concurrent": concurrent,
		"goroutine":  func() { go inner(1); time.Sleep(time.Minute) },
		"all":        func() { waiters(); inner(1) },
		"log":        func() { log.Panicf("in the log: %d", 7) },
		"handled":    handled,
		"stack":      debug.PrintStack,
	}
	deaths[os.Args[1]]()
}

package policy

import rego.v1

default allow := false

# No end in sight, and no memory needed on the way.
numbers_there := numbers.range(1, 3000)

allow if {
	some i in numbers_there
	some j in numbers_there
	some k in numbers_there
	i < j
	j < k
	k < i
}

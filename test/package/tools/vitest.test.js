import { test } from 'vitest'
import { starts } from './starts.js'

test('a host starts', starts)

import { test } from '@jest/globals'
import { starts } from './starts.js'

test('a host starts', starts)

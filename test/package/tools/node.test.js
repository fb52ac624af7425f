import { test } from 'node:test'
import { starts } from './starts.js'

test('a host starts', starts)

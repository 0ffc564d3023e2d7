// Runs before the first paint, so that a page never flashes in the other theme.
import { applyTheme, storedTheme } from "./theme_choice";

applyTheme(storedTheme());

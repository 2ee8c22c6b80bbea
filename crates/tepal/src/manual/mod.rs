//! The manual, in chapters: see the pages below.

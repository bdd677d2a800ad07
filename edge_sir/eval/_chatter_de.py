"""German for `chatter`: word lists, and exchanges as (user, assistant)."""

from edge_sir.eval._words import words

__all__ = ["TEMPLATES", "WORDS"]

WORDS = {
    "name": words(
        "Anke,Bernd,Clara,Dirk,Elif,Frieda,Gero,Hanna,Ilse,Jakob,Kerstin,Lutz,Marlene,Niklas,Oskar,Petra,Rolf,Sabine,"
        "Theo,Uwe,Viola,Wiebke,Yannick,Zora"
    ),
    "city": words(
        "Ulm,Bremen,Kassel,Passau,Graz,Basel,Weimar,Aachen,Rostock,Trier,Linz,Bern,Erfurt,Kiel,Potsdam,Celle,Luzern"
    ),
    "topic": words(
        "Vulkane,Biber,Uhren,Kometen,Moose,Geigen,Burgen,Magnete,Gletscher,Eulen,Wale,Drachen,Spiegel,Kanäle"
    ),
    "thing": words("Regenschirm,Drucker,Kühlschrank,Teppich,Briefkasten,Toaster,Rasenmäher,Wecker,Schrank,Heizkörper"),
    "animal": words("Igel,Papagei,Esel,Dachs,Storch,Hamster,Fuchs,Rabe,Dackel,Luchs,Pfau,Marder"),
    "odd": words("Quastenflosser,Palindrom,Axolotl,Xylophon,Theodolit,Zeugma,Ypsilon,Oxymoron,Mumpitz,Firlefanz"),
    "dish": words("Linsensuppe,Kartoffelsalat,Gulasch,Pfannkuchen,Maultaschen,Rösti,Zwiebelkuchen,Risotto,Grießbrei"),
    "day": words("Montag,Dienstag,Mittwoch,Donnerstag,Freitag,Samstag,Sonntag"),
    "mood": words("müde,fröhlich,mürrisch,nervös,faul,aufgeregt,verwirrt,einsam,stolz"),
}

_SHORT = (
    ("Was ist das Erstaunlichste an {topic}?", "Viele wundern sich, wie alt das Thema ist."),
    ("Wie weit ist der Mond entfernt?", "Im Mittel etwa 384000 Kilometer."),
    ("Warum ist der Himmel blau?", "Die Luft streut kurze Wellen stärker als lange."),
    ("Erkläre einem Kind das Wort {odd}.", "Es klingt lustiger, als es ist, und passt in jedes Rätsel."),
    ("Was reimt sich auf {animal}?", "Mir fällt gerade nichts ein, das nicht albern wäre."),
    ("Ist {city} größer als {city2}?", "Das müsste ich nachsehen; es kommt auch auf die Vororte an."),
    ("Ich komme gerade aus {city}, es hat nur geregnet.", "Oje! Hoffentlich warst du gut ausgerüstet."),
    ("Mein Nachbar {name} übt nachts Trompete.", "Das klingt anstrengend. Habt ihr darüber gesprochen?"),
    ("Ich bin heute ziemlich {mood}.", "Vielleicht hilft ein kleiner Spaziergang."),
    ("{name} lässt dich grüßen.", "Wie nett! Grüße bitte zurück."),
    ("Ein {animal} saß heute früh vor der Tür.", "Was für ein Besuch! Blieb er lange?"),
    ("Ich glaube, der {thing} ist schon wieder kaputt.", "So etwas kommt vor. Gibt es noch Garantie?"),
    ("{name} und {name2} reden nicht mehr miteinander.", "Das gibt sich bestimmt bald wieder."),
    ("Nenne drei Städte für eine Reise.", "1. {city}\n2. {city2}\n3. {city3}"),
    ("Wer kommt zur Probe?", "- {name}\n- {name2}\n- {name3}"),
    ("Drei seltene Wörter, bitte.", "{odd}, {odd2}, {odd3}"),
    ("Themen für den Quizabend?", "{topic}, {topic2} und {topic3}, je zehn Fragen."),
    ("Was ist {num} plus {num2}?", "{num} plus {num2} ist {sum}."),
    ("Was ist {num} mal {num2}?", "{num} mal {num2} ist {product}."),
    ("Der Zähler steht bei {long}.", "Danke, ich habe es vermerkt."),
    ("Der Zug fährt um {hour}:{minute} Uhr.", "Dann solltest du rechtzeitig losgehen."),
    ("Der {thing} hat {hundreds} Euro gekostet.", "Das ist viel Geld dafür."),
    ("Unser Chor wurde {year} gegründet.", "Was für eine lange Tradition!"),
    ("Die Sendungsnummer lautet {digits}.", "Damit kannst du das Paket verfolgen."),
    ("for i in range({few}): print(i)\nWas gibt das aus?", "Die Zahlen von 0 an, eine je Zeile."),
    ("Wie drehe ich in Python eine Liste um?", "Mit `liste[::-1]` oder `liste.reverse()`."),
    ("git meldet einen Konflikt?", "Bearbeite die Datei und führe dann `git add` aus."),
    ("Die Seriennummer vom {thing} ist {serial}.", "Hebe auch die Rechnung auf."),
    ("Prüfsumme: {hex}{hex2}", "Vergleiche sie mit der auf der Webseite."),
    ("Ein Lieferwagen mit dem Kennzeichen {letter}{letter2} {long}.", "Was einem so alles auffällt."),
    ("Hm.", "Lass dir Zeit."),
    ("Brrr!", "Zieh dir etwas Warmes an."),
    ("Ach, egal.", "In Ordnung."),
    ("{odd}!", "Gesundheit!"),
    ("Da bin ich wieder.", "Willkommen zurück!"),
    ("Wie macht man {dish}?", "Langsam anfangen, spät salzen, und {num} Minuten Geduld."),
    ("Gestern ist mir {dish} angebrannt.", "Weniger Hitze und ein Wecker helfen."),
    ("Lohnt sich {city} für ein Wochenende?", "Ja: die Altstadt, ein Museum und ein gutes Abendessen."),
    ("Von {city} nach {city2} mit der Bahn?", "Einmal umsteigen, etwa {few} Stunden."),
    ("Mein Koffer wiegt {num} Kilo.", "Das ist wohl mehr, als erlaubt ist."),
)

_LONG = (
    (
        "Aus der Zeitung: Ein {animal} hat gestern den Verkehr in {city} {few} Stunden lang aufgehalten. Die Feuerwehr "
        "versuchte es mit gutem Zureden. Am Ende öffnete {name} die Tür zum Lieferwagen, und das Tier stieg ein.",
        "Eine schöne Geschichte und sehr geduldige Leute.",
    ),
    (
        "Protokoll: 1. Die Heizung ist zu laut, {name} fragt nach. 2. Der {thing} im Flur muss weg. 3. Das Sommerfest "
        "findet im Hof statt, mit {dish} und Musik. Ende um {hour}:{minute} Uhr.",
        "Das ist klar und knapp geschrieben.",
    ),
    (
        "So findet ihr uns: Am Bahnhof links, am Kanal entlang bis zum Turm, dann über die Brücke. Hausnummer {num}. "
        "Wenn vom Dach ein {animal} schaut, seid ihr richtig. Bitte {few} Mal klingeln.",
        "So würde ich es auch nachts finden.",
    ),
    (
        "Mein Tagebuch: Wir verließen {city} vor Sonnenaufgang. Der Nebel war so dicht, dass {name} mit einer Lampe "
        "vorausging. Bei {city2} fanden wir ein Gasthaus, in dem ein alter Mann Geige spielte. Es war der beste Abend.",
        "Das liest sich fast wie ein Märchen.",
    ),
    (
        "Kiste {serial}: ein {odd}, zwei Zahnräder, ein Brief an {name} in {city}, {num} Glasplatten und ein "
        "ausgestopfter {animal}. Gewicht {hundreds} Kilo, keine Unterschrift.",
        "Ich würde alles fotografieren, bevor es jemand bewegt.",
    ),
)

TEMPLATES = _SHORT + _LONG
